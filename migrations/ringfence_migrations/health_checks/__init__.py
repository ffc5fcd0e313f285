"""The version directory of `health-checks`."""
