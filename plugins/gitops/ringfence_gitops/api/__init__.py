"""Git repositories over HTTP."""
