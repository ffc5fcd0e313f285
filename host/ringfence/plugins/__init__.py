"""What a plugin is, how it is found, and how it is taken through its life."""
