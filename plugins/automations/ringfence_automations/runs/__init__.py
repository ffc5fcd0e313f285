"""What becomes of an automation that was started: its runs, and how they go on."""
