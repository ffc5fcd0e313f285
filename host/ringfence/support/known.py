"""The secrets that a machine itself knows, to be blotted out of all that leaves it, in whatever form they are there."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from urllib.parse import unquote, urlsplit

from ringfence.redaction import names_secret

SHORTEST = 4
"""What is shorter is in every text by chance."""
_TOKEN_FILES = ("admin-token", "*-token", "secrets-key", "token")


def secrets_of(environ: Mapping[str, str], secret_variables: Iterable[str], data_dir: Path) -> frozenset[str]:
    """Secret settings, passwords in addresses, and the tokens and keys in the data directory."""
    found = {*_of_environment(environ, frozenset(secret_variables)), *_of_files(data_dir)}
    return frozenset(one for one in found if len(one) >= SHORTEST)


def _of_environment(environ: Mapping[str, str], variables: frozenset[str]) -> Iterator[str]:
    for name, value in environ.items():
        if name in variables or names_secret(name) or name in {"PGPASSWORD", "PGSSLPASSWORD"}:
            yield from (value, *value.split(","))
        if "://" in value:
            with contextlib.suppress(ValueError):
                password = urlsplit(value).password
                if password:
                    yield from (password, unquote(password))


def _of_files(data_dir: Path) -> Iterator[str]:
    for pattern in _TOKEN_FILES:
        for path in data_dir.glob(pattern):
            with contextlib.suppress(OSError, ValueError):
                yield from (line.strip() for line in path.read_text().splitlines())
