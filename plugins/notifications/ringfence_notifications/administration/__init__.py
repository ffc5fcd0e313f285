"""What administrators do with channels and routes, for the API and the pages alike."""
