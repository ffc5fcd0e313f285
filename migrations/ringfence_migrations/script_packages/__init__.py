"""The version directory of `script-packages`."""
