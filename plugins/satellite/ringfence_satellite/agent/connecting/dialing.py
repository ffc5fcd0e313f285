"""How the agent reaches an address: with which TLS, and what is said when it cannot.

What goes wrong at one address concerns that address alone, whatever it is: a name that no resolver takes, a proxy that
nobody can speak to. And proxies may be named together with their passwords: what is told of one is told without.
"""

from __future__ import annotations

import re
import ssl
from urllib.parse import urlsplit

from websockets.exceptions import InvalidProxy

_USER_INFO = re.compile(r"[^\s/@'\"]+@")


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
