"""How the agent reaches an address: through which proxy, with which TLS, and what is said when it cannot.

What goes wrong at one address concerns that address alone, whatever it is: a name that no resolver takes, a proxy that
nobody can speak to. And proxies may be named together with their passwords: what is told of one is told without.
"""

from __future__ import annotations

import re
import ssl
import urllib.request
from urllib.parse import urlsplit

from websockets.exceptions import InvalidProxy
from websockets.proxy import get_proxy
from websockets.uri import parse_uri

from ringfence_satellite.agent.connecting.hosts import is_loopback

_USER_INFO = re.compile(r"[^\s/@'\"]+@")


def proxy_for(url: str) -> str | None:
    """The proxy to that address by the environment: its own scheme's variable, or ALL_PROXY; none to this machine.

    NO_PROXY holds for all of them.
    """
    if is_loopback(url):
        return None
    parts = parse_uri(url)
    chosen = get_proxy(parts)
    if chosen is not None or urllib.request.proxy_bypass(f"{parts.host}:{parts.port}"):
        return chosen
    return urllib.request.getproxies().get("all")


def tls_for(url: str, trusted: ssl.SSLContext) -> ssl.SSLContext | None:
    """The TLS for an address; None for one without."""
    return trusted if urlsplit(url).scheme == "wss" else None


def why_not(error: Exception) -> str:
    """What to tell of a failure to connect, without anybody's password."""
    if isinstance(error, InvalidProxy):
        return (
            f"the proxy cannot be used: {_without_users(error.msg)}; HTTPS_PROXY, WSS_PROXY and ALL_PROXY take "
            "http://HOST:PORT or socks5h://HOST:PORT"
        )
    if isinstance(error, ImportError):
        return "a SOCKS proxy is set, which needs the Python package python-socks[asyncio]: install it, or unset it"
    return _without_users(f"{type(error).__name__}: {error}")


def _without_users(text: str) -> str:
    return _USER_INFO.sub("…@", text)
