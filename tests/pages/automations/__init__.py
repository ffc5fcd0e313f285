"""The pages of automations and runs."""
