"""What routes are made of: who may call them, how they fail, and lists page by page."""
