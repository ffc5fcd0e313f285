"""Expressions: what they come to, what is refused, and that nothing holds them up."""
