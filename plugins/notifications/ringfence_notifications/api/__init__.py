"""Notifications over HTTP: an address can be written, and by no route be read."""
