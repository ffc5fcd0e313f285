"""The version directory of `host`."""
