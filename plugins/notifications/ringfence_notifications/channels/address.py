"""The address of a channel, as Apprise has it: what may be told of it, and what must not. Pure.

Threat: an address holds passwords and tokens, in places that differ with its kind (`slack://token/token`), and errors
quote it. Mechanism: of an address only its kind is ever shown; from what a library says of a failure, the whole address
and each part of it are taken out, as they are written and as they are meant. Not covered: parts of fewer than three
characters, and a part in a form that nothing here knows.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from urllib.parse import parse_qsl, quote, unquote, unquote_plus, urlsplit

from ringfence.redaction import HIDDEN, redacted

MAX_ADDRESS = 4096
LOCAL = frozenset({"blink1", "dbus", "gio", "glib", "gnome", "kde", "macosx", "qt", "syslog", "windows"})
"""Kinds that reach nobody elsewhere: they act on the machine of the host itself."""
SHORTEST_PART = 3

_KIND = re.compile(r"([A-Za-z][A-Za-z0-9+.-]{0,31})://")
_SECRET = re.compile(r"\{\{\s*secrets\.([A-Za-z][A-Za-z0-9_-]{0,63})\s*\}\}")


class AddressError(ValueError):
    """An address cannot be used; the message says why, and does not hold it."""


def kind_of(address: str) -> str:
    """The kind of an address: `mailto`. Of one that is a secret as a whole it is not known: `secret`.

    Raises:
        AddressError: if it is no address.
    """
    if _SECRET.fullmatch(address.strip()):
        return "secret"
    if len(address) > MAX_ADDRESS:
        raise AddressError(f"an address has at most {MAX_ADDRESS} characters")
    if (found := _KIND.match(address)) is None:
        raise AddressError(
            "an address begins with its kind and ://, such as mailto://user:password@example.org"
        )
    if (kind := found[1].lower()) in LOCAL:
        raise AddressError(f"{kind}:// reaches nobody: it acts on the machine that the host runs on")
    return kind


def secret_names(address: str) -> frozenset[str]:
    """The names of the secrets that an address refers to as `{{ secrets.NAME }}`."""
    return frozenset(_SECRET.findall(address))


def filled(address: str, secrets: Mapping[str, str]) -> str:
    """The address with the values of its secrets: percent-encoded, unless the secret is the whole address."""
    address = address.strip()
    if (whole := _SECRET.fullmatch(address)) is not None:
        return secrets[whole[1]].strip()
    return _SECRET.sub(lambda found: quote(secrets[found[1]], safe=""), address)


def without(address: str, text: str) -> str:
    """`text` without the address and its parts, and without what looks like a secret anyhow."""
    for part in sorted(set(_parts(address)), key=len, reverse=True):
        if len(part) >= SHORTEST_PART:
            text = re.sub(
                rf"(?<![A-Za-z0-9]){re.escape(part)}(?![A-Za-z0-9])", HIDDEN, text, flags=re.IGNORECASE
            )
    return redacted(text)


def _parts(address: str) -> Iterator[str]:
    yield address
    kind, _, rest = address.partition("://")
    yield f"{kind}://"
    try:
        pieces = urlsplit(f"x://{rest}")
    except ValueError:
        pieces = urlsplit("x://")
        yield from _spellings(rest)
    yield from _spellings(pieces.netloc)
    for piece in re.split(r"[@:/?&=#,+ ]", rest):
        yield from _spellings(piece)
    for segment in pieces.path.split("/"):
        yield from _spellings(segment)
    yield from _spellings(pieces.path)
    for name, value in parse_qsl(pieces.query, keep_blank_values=True):
        yield from (name.lstrip("+-:"), *_spellings(value))


def _spellings(piece: str) -> Iterator[str]:
    yield from (piece, unquote(piece), unquote_plus(piece), quote(unquote(piece), safe=""))
