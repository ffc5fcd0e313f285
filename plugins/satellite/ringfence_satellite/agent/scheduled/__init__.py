"""What this satellite is assigned, and runs by itself."""
