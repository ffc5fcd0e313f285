"""A host that looks like one in use: `python -m tests.lifelike` serves it; `….screenshots` takes pictures of it."""
