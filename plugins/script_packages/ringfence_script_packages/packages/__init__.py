"""What scripts may import: what is allowed, how it is locked and stored, and who has which."""
