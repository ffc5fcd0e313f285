"""The pages of checks, for people: a module for each, and what they have in common in `parts`."""
