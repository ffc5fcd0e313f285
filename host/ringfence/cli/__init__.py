"""The `ringfence` command: one module per group of commands, and what they share."""

from ringfence.cli.app import main

__all__ = ["main"]
