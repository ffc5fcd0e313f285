"""What is told to whom and when, decided without any input or output."""
