"""What a command line gives, read into values."""
