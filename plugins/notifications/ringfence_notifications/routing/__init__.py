"""Routes: which events are told to which channels, in what words."""
