"""What an automation is: how a definition is read, what is refused, and what is kept of it."""
