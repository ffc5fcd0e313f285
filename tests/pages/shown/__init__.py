"""The templates of the tests' plugin."""
