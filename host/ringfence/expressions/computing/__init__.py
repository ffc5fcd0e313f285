"""What an expression comes to, and what that may cost."""
