"""The `ringfence` command, as its users see it."""
