"""The inside end of a relay: what is made in the run's network, by a child that goes there."""
