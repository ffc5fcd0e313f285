"""The host's side of satellites: who is connected, what they are told, and what is kept of what they say."""
