"""Seeing a run through: what is decided in its course, and the edge where that is done."""
