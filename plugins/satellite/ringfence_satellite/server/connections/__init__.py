"""The satellites that are connected to this instance: what is known of each, and what all of them are told."""
