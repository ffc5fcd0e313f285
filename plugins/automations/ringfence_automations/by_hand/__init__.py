"""What people do with automations and their runs, by a route or on a page: both ask for it here, and are told alike."""
