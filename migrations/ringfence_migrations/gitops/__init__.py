"""The version directory of `secrets`."""
