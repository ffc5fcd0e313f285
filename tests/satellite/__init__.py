"""The satellite plugin and the agent."""
