"""Webhooks: an address of its own for an automation, which starts it."""
