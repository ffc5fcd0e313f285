"""The plugin host and everything that it offers to plugins."""
