"""Trying an automation: what it would do with an event, without doing it."""
