"""A link behind a packet filter, where a run has no relay: a userspace stack, or an interface of its own."""
