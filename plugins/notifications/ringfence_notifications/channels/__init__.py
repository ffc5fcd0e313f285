"""Channels: the ways to reach people, and their addresses, which are secrets."""
