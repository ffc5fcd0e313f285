"""What the host asks for: run here, and told while it runs."""
