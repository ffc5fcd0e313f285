"""The version directory of `automations`."""
