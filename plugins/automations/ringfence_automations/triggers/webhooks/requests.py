"""What a request to a webhook tells, as the event that expressions and scripts see. Pure."""

from __future__ import annotations

import codecs
import json
from collections.abc import Iterable
from email.message import Message
from typing import Any
from urllib.parse import parse_qsl

from ringfence.bounded import cleaned, cleaned_json

MAX_BODY_BYTES = 256 * 1024
MAX_HEADERS = 60
MAX_HEADER_CHARACTERS = 1000
MAX_FIELDS = 500
MAX_QUERY_CHARACTERS = 8000
HIDDEN = frozenset(
    {"authorization", "cookie", "proxy-authorization", "x-api-key", "x-auth-token", "x-gitlab-token"}
)
"""Headers that hold what their sender proves who they are with: no automation is told them."""
ENCODINGS = frozenset(
    {
        *(
            "ascii",
            "utf-8",
            "utf-8-sig",
            "utf-16",
            "utf-16-le",
            "utf-16-be",
            "utf-32",
            "utf-32-le",
            "utf-32-be",
        ),
        *("big5", "euc_jp", "euc_kr", "gb18030", "gb2312", "gbk", "koi8-r", "koi8-u", "shift_jis"),
        *(f"iso8859-{part}" for part in (1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 13, 14, 15, 16)),
        *(f"cp{page}" for page in (437, 850, 852, 866, 932, 949, 950, *range(1250, 1259))),
    }
)
"""Those in which bodies may be, as Python calls them. Not all that Python knows: some take minutes for such a body."""


class NotReadableError(ValueError):
    """The body is not what it is said to be."""


def event_of(
    method: str,
    headers: Iterable[tuple[str, str]],
    query: str,
    body: bytes,
    *,
    also_hidden: Iterable[str] = (),
) -> dict[str, Any]:
    """`body`, `headers`, `query` and `method`. Raises `NotReadableError`.

    The names of headers are in lower case; of those that are given several times, the values are joined by commas.
    """
    listed = [(name.lower(), value) for name, value in headers]
    kind = next((value for name, value in listed if name == "content-type"), "")
    hidden = HIDDEN | {name.lower() for name in also_hidden}
    return {
        "method": method,
        "headers": _headers((name, value) for name, value in listed if name not in hidden),
        "query": _fields(query[:MAX_QUERY_CHARACTERS]),
        "body": _body(body, kind),
    }


def _headers(listed: Iterable[tuple[str, str]]) -> dict[str, str]:
    found: dict[str, str] = {}
    for name, value in listed:
        if name in found or len(found) < MAX_HEADERS:
            joined = f"{found[name]}, {value}" if name in found else value
            found[name] = cleaned(joined, MAX_HEADER_CHARACTERS)
    return found


def _body(body: bytes, content_type: str) -> Any:
    kind, encoding = _kind(content_type)
    if not body:
        return None
    if kind == "application/x-www-form-urlencoded":
        return _fields(_text(body, encoding))
    if kind == "application/json" or kind.endswith("+json"):
        try:
            return cleaned_json(json.loads(body))
        except (ValueError, RecursionError) as error:
            raise NotReadableError(f"the body is not JSON that can be kept: {error}") from error
    return cleaned(_text(body, encoding))


def _kind(content_type: str) -> tuple[str, str]:
    message = Message()
    message["content-type"] = content_type or "text/plain"
    return message.get_content_type(), str(message.get_content_charset("utf-8"))


def _text(body: bytes, encoding: str) -> str:
    try:
        known = codecs.lookup(encoding).name
    except (LookupError, ValueError):
        known = ""
    if known not in ENCODINGS:
        raise NotReadableError(f"the body is in an encoding that is not read here: {encoding[:100]!r}")
    return body.decode(known, errors="replace")


def _fields(text: str) -> dict[str, Any]:
    """The fields of a form or a query; one that is given several times is a list."""
    try:
        pairs = parse_qsl(text, keep_blank_values=True, max_num_fields=MAX_FIELDS, errors="replace")
    except ValueError as error:
        raise NotReadableError(f"the fields cannot be read: {error}") from error
    found: dict[str, Any] = {}
    for given, told in pairs:
        name, value = cleaned(given), cleaned(told)
        if name not in found:
            found[name] = value
        elif isinstance(found[name], list):
            found[name].append(value)
        else:
            found[name] = [found[name], value]
    return found
