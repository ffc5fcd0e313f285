"""The notifications plugin: people are told what happens, by channels of their own choice."""
