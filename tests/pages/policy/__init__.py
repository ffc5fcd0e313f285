"""The pages of the sandbox policy."""
