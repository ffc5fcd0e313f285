"""The version directory of `notifications`."""
