"""What only a browser shows: Debian's Chromium, on pages of a real host."""
