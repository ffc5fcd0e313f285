"""A change to the policy as it is typed: assignments, inline JSON, a file or standard input."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import IO, Any, NamedTuple

from ringfence.cli import parse_object, read_object

from ringfence_script_packages.sizes import read_size

_ASSIGNMENT = re.compile(r"([A-Za-z][A-Za-z0-9]*(?:\.[A-Za-z][A-Za-z0-9]*)*)=(.*)", re.DOTALL)
_PORTS = re.compile(r"[0-9]+(-[0-9]+)?")
_LISTS = frozenset(("network.allow", "filesystem.hostPaths", "filesystem.hostView"))


def parse_changes(words: Sequence[str], stdin: IO[bytes]) -> dict[str, Any]:
    """The partial policy that `words` spell; later words win over earlier ones.

    Each word is `PATH=VALUE` (`network.mode=deny`, `resources.memoryBytes=256MiB`,
    `network.allow=10.0.0.5:443,api.example.com:443,8443`), a JSON object, the name of a JSON file, or `-` for JSON on
    standard input.

    Raises:
        UsageMistake: if a word is none of these, or what it names is not a JSON object.
    """
    partial: dict[str, Any] = {}
    for word in words:
        _merge(partial, _parse(word, stdin))
    return partial


def _parse(word: str, stdin: IO[bytes]) -> dict[str, Any]:
    if word.lstrip().startswith("{"):
        return parse_object(word.encode(errors="surrogateescape"), "the argument")
    if found := _ASSIGNMENT.fullmatch(word):
        path, text = found[1], found[2]
        value = _value(path, text)
        for step in reversed(path.split(".")):
            value = {step: value}
        return dict(value)
    return read_object(word, stdin)


def _value(path: str, text: str) -> Any:
    if path in _LISTS and not text.lstrip().startswith("["):
        return _listed(entry.strip() for entry in text.split(",") if entry.strip())
    if (size := read_size(text)) is not None:
        return size
    try:
        return json.loads(text)
    except ValueError:
        return text


def _listed(words: Iterable[str]) -> list[str]:
    """The entries of a list; a port alone is one more of the entry before it (`api.example.com:443,8443`)."""
    entries: list[str] = []
    for word in words:
        if entries and _PORTS.fullmatch(word):
            entries[-1] += f",{word}"
        else:
            entries.append(word)
    return entries


def _merge(into: dict[str, Any], other: Mapping[str, Any]) -> None:
    for name, value in other.items():
        if isinstance(value, dict) and isinstance(into.get(name), dict):
            _merge(into[name], value)
        else:
            into[name] = value


class Difference(NamedTuple):
    """One field that differs between two policies; `None` where a side does not have it."""

    path: str
    before: object
    after: object


def differences(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[Difference]:
    """What differs between two policies as JSON, in the order of their fields.

    Works on JSON and not on this program's own model of a policy: the host may be newer.
    """
    old, new = dict(_leaves(before)), dict(_leaves(after))
    paths = [*old, *(path for path in new if path not in old)]
    return [
        Difference(path, old.get(path), new.get(path)) for path in paths if old.get(path) != new.get(path)
    ]


def _leaves(policy: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, object]]:
    for name, value in policy.items():
        if isinstance(value, Mapping):
            yield from _leaves(value, f"{prefix}{name}.")
        else:
            yield prefix + name, value
