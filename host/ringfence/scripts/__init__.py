"""The shared script runners."""
