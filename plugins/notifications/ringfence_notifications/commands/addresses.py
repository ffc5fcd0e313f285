"""Where the API of notifications is."""

from __future__ import annotations

from urllib.parse import quote

BASE = "/api/notifications"
CHANNELS = f"{BASE}/channels"
ROUTES = f"{BASE}/routes"
INCIDENTS = f"{BASE}/incidents"
MESSAGES = f"{BASE}/messages"
SUPPRESSED = f"{BASE}/suppressed"


def of(path: str, name: str) -> str:
    """Where one of them is."""
    return f"{path}/{quote(name, safe='')}"
