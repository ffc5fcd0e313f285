"""The edge of seeing a run through: its processes, its output, its link, and what is waited for."""
