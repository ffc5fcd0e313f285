"""What a process needs that is no host: the command line and the agent both stand on this."""
