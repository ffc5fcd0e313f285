"""`ringfence verify`: what is tried inside a sandbox, and what that shows."""
