"""The fleet's pages, and its panels on those of others."""
