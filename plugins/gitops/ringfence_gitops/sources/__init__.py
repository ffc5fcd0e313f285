"""The sources: which repositories are followed, how that goes, and what of them is released."""
