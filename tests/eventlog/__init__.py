"""The event log, the hook bus and the work-queues, on real databases and with real processes."""
