"""What scripts may import: which files a lock names for a machine, and the trees that are made of them."""
