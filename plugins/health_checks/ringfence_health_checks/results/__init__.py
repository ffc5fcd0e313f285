"""What runs of checks have shown: taken in within bounds, stored, read back and thinned."""
