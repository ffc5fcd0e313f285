"""The satellite plugin: registry, relay and agent."""
