"""Where things are kept: the database, configs in it, and files in the data directory."""
