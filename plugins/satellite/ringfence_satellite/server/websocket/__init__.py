"""The socket at `/api/ws/satellite`: who is let in, who acts on what is said there, and how it is closed."""
