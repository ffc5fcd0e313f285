"""The packages that scripts on this satellite import: fetched from the host, kept, and told of."""
