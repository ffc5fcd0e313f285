"""Which name servers a resolv.conf names."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator

_MOST = 3
"""So many does the C library ask (`MAXNS`, resolv.conf(5))."""

_LOCAL = "127.0.0.1"
"""Whom it asks where none is named (resolv.conf(5))."""


def named(text: str) -> Iterator[str]:
    """What a resolv.conf names as name servers, in its order, whether they are addresses or not."""
    for line in text.splitlines():
        words = line.split()
        if len(words) > 1 and words[0] == "nameserver":
            yield words[1]


def nameservers(text: str) -> tuple[str, ...]:
    """The addresses that the C library would ask for names, the preferred first; an IPv6 one may have a zone."""
    found = tuple(word for word in named(text) if _is_address(word))
    return found[:_MOST] or (_LOCAL,)


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True
