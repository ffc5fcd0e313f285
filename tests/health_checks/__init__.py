"""Checks: when they run, what they say, where their results go."""
