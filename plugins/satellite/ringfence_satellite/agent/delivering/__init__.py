"""Results, kept until the host has them."""
