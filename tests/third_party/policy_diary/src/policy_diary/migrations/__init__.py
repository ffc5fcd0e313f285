"""The tables of the diary."""
