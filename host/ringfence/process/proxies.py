"""Which proxy leads to an address, as the environment says: the same for every connection to a host.

`HTTPS_PROXY`, `HTTP_PROXY`, `WSS_PROXY`, `WS_PROXY` and `ALL_PROXY` name proxies, in large or small letters. `NO_PROXY`
names hosts, domains and networks that are reached without one. This machine always is.
"""

from __future__ import annotations

import ipaddress
import urllib.request
from urllib.parse import urlsplit

_VARIABLES = {
    "http": ("http", "all"),
    "https": ("https", "all"),
    # As the library of WebSockets has it.
    "ws": ("ws", "socks", "https", "http", "all"),
    "wss": ("wss", "socks", "https", "all"),
}
"""By an address's scheme: the variables that may name its proxy, the first that is set."""


def proxy_for(url: str) -> str | None:
    """The proxy to that address; None for none."""
    parts = urlsplit(url)
    if is_loopback(url) or _is_reached_without(parts.hostname or "", parts.port):
        return None
    named = urllib.request.getproxies()
    return next((named[one] for one in _VARIABLES[parts.scheme] if named.get(one)), None)


def is_loopback(url: str) -> bool:
    """Whether an address is on this machine, so that no proxy has any business between us and ourselves."""
    name = urlsplit(url).hostname or ""
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return name == "localhost"


def _is_reached_without(name: str, port: int | None) -> bool:
    if urllib.request.proxy_bypass(f"{name}:{port}" if port else name):
        return True
    try:
        address = ipaddress.ip_address(name)
    except ValueError:
        return False
    return any(address in network for network in _networks(urllib.request.getproxies().get("no", "")))


def _networks(text: str) -> list[ipaddress.IPv4Network | ipaddress.IPv6Network]:
    found = []
    for one in text.split(","):
        try:
            found.append(ipaddress.ip_network(one.strip(), strict=False))
        except ValueError:
            continue
    return found
