"""What starts automations: hooks, timetables, webhooks and people."""
