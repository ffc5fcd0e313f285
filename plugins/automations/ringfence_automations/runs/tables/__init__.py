"""The tables of runs, of their steps, and of what those have written: every statement on them."""
