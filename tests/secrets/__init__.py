"""Secrets: kept encrypted, given just in time, and blotted out of what is seen."""
