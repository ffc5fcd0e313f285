"""The agent's connection to its host: found, opened, talked over, and opened again."""
