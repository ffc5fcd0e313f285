"""The log's past: what of it may go, whether it is what was written, and where two histories part."""
