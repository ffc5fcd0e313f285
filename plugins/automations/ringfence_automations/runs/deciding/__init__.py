"""What a run does next, and which runs begin: decided without a database. Pure."""
