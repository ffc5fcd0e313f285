"""What runs a script, by what the script is, and whether that is there."""
