"""A sandbox that waits for its script, and what is made of the host for it."""
