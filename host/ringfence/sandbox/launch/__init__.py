"""Doing what a plan says, and seeing the run through to its end."""
