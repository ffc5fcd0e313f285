"""Links of messages: a path of a page of the host's own becomes an address where the host has one for people. Pure."""

from __future__ import annotations

import re

_OWN = re.compile(r"/(?![/\\])[\x21-\x5b\x5d-\x7e]{0,1999}")


def is_own_page(link: str | None) -> bool:
    """Whether this is the path of a page of the host's own, and not what browsers take for another host's address."""
    return link is not None and _OWN.fullmatch(link) is not None


def for_people(link: str | None, public_url: str | None) -> str | None:
    """What a message has as its link. A page of the host's own is none where nobody knows how people reach the host."""
    if not is_own_page(link):
        return link
    return None if public_url is None else f"{public_url.rstrip('/')}{link}"
