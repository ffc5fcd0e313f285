"""Worker groups: which instance serves which, and each event to its end."""
