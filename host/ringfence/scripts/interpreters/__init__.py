"""What waits in a sandbox for each kind of script, and how it is handed its script."""
