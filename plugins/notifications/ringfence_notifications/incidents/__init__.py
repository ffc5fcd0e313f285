"""Incidents: what happens becomes what channels have yet to be told, and that becomes messages."""
