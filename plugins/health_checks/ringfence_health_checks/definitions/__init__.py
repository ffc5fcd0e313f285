"""What checks are, where they are kept, and in which places they run."""
