"""The site of the documents: built by `python -m tools.site`, which fails for what leads nowhere."""
