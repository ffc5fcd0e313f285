"""The checks' part of the HTTP API."""
