"""Runs that somebody asks for: things of their own, from the asking until a day after their end."""
