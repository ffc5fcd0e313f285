"""What is asked of requests that browsers make for whoever is signed in: from which page, and to which name. Pure.

Threat: another site's page has a browser send what its user is signed in for (CSRF), shows ours in a frame
(clickjacking), or has its own name resolve to our address, and so reads our answers as its own (DNS rebinding).
Mechanism: a cookie that no other site's page has sent (`SameSite=Strict`), and that another port of the same machine
cannot use, since every request that changes something, and every one to the API, also carries a text that only our
pages know; `Sec-Fetch-Site` and `Origin` must name us where a browser sends them; answers may not be framed, and the
name that is asked for must be one of ours: an address is nobody's name, so it is always let in. Not covered: what runs
within our own pages, which the Content-Security-Policy is for, and other programs on the user's own machine.
"""

from __future__ import annotations

import ipaddress
import re
import socket
from collections.abc import Iterable, Mapping

PLAIN_COOKIE = "ringfence"
SECURE_COOKIE = "__Host-ringfence"
"""A browser takes a cookie of this kind of name only over TLS, for the whole site, and from no sibling of it."""
CSRF_HEADER = "x-csrf-token"
CSRF_FIELD = "csrf"
SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
_HOST = re.compile(r"(?:\[(?P<address>[0-9A-Fa-f:.]+)\]|(?P<name>[0-9A-Za-z._-]+))(?::[0-9]{1,5})?")
"""A host and perhaps a port (RFC 9110, 7.2), and nothing of an address that could stand before or after these."""

POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self'",
        "font-src 'self'",
        "connect-src 'self'",
        "form-action 'self'",
        "base-uri 'none'",
        "frame-ancestors 'none'",
    )
)
HEADERS = {
    "Content-Security-Policy": POLICY,
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
    # Not "no-referrer": with that, browsers would say of our own forms that they come from nowhere.
    "Referrer-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}
"""What every answer is sent with."""


def cookie_name(scheme: str) -> str:
    """What the session's cookie is called on connections of this scheme."""
    return SECURE_COOKIE if scheme == "https" else PLAIN_COOKIE


def foreign(method: str, scheme: str, headers: Mapping[str, str]) -> str | None:
    """Why a request for which somebody is signed in is not one of our own pages', or None.

    A GET that a person made, by an address or a bookmark, is as good as one of ours.
    """
    site = headers.get("sec-fetch-site")
    if site is not None:
        mine = {"same-origin", "none"} if method in SAFE_METHODS else {"same-origin"}
        # A link on another site leads here as a navigation of the whole tab: that is no harm, and it brings no cookie.
        followed = method in SAFE_METHODS and headers.get("sec-fetch-mode") == "navigate"
        if site not in mine and not followed:
            return "the browser says that another site's page has sent this"
    origin = headers.get("origin")
    if (
        origin is not None
        and method not in SAFE_METHODS
        and not _same_origin(origin, scheme, headers.get("host", ""))
    ):
        return f"it comes from a page of {origin[:200]}"
    return None


def _same_origin(origin: str, scheme: str, host: str) -> bool:
    return origin.lower() == f"{scheme}://{host}".lower()


class AllowedHosts:
    """The names under which browsers may reach this instance."""

    def __init__(self, names: Iterable[str]) -> None:
        own = {socket.gethostname().lower(), "localhost"}
        self._names = own | {name.strip().lower().rstrip(".") for name in names if name.strip()}

    @classmethod
    def parse(cls, text: str) -> AllowedHosts:
        """Read the setting: names with commas between them."""
        return cls(text.split(","))

    def allow(self, header: str | None) -> bool:
        """Whether a request may ask for the host of this header. No header, as of HTTP/1.0, is no browser's."""
        found = _HOST.fullmatch(header or "")
        if found is None:
            return False
        name = (found["address"] or found["name"]).lower()
        try:
            ipaddress.ip_address(name)
        except ValueError:
            bare = name.rstrip(".")
            return bare in self._names or bare.endswith(".localhost")
        return True
