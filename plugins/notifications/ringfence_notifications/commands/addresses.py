"""Where the API of notifications is."""

from __future__ import annotations

from urllib.parse import quote

from ringfence.cli import names_from

BASE = "/api/notifications"
CHANNELS = f"{BASE}/channels"
ROUTES = f"{BASE}/routes"
INCIDENTS = f"{BASE}/incidents"
MESSAGES = f"{BASE}/messages"
SUPPRESSED = f"{BASE}/suppressed"

CHANNEL_NAMES = names_from(CHANNELS, "channels")
"""Completes the name of a channel."""


def of(path: str, name: str) -> str:
    """Where one of them is."""
    return f"{path}/{quote(name, safe='')}"
