"""What will be done for one run: pure decisions, from what a host can do, what a policy asks, and what a run needs."""
