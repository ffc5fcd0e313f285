"""Documents that people write: read with the place of every value, written, and held against each other."""
