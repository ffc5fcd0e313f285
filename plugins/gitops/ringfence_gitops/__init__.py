"""Git repositories have what they declare hold on the host."""
