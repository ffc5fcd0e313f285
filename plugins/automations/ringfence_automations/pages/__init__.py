"""The pages of automations and their runs."""
