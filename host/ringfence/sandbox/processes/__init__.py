"""Processes on the host: what starts them and tells of their end, and how they are known for certain."""
