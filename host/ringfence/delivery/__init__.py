"""How events reach the listeners of this instance, in order, and what they hear when the log is followed again."""
