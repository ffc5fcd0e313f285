"""The version directory of `satellite`."""
