"""What is said of a source on a command line, and how that is put as the API takes it."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from typing import Annotated, Any

import typer
from ringfence.cli import CliError, duration, names_as, names_from, read_file

SOURCES = "/api/gitops/sources"
SECRETS = names_as("secret", "delete")


class Deletion(enum.StrEnum):
    """What becomes of an object whose document is gone."""

    ORPHAN = "orphan"
    PRUNE = "prune"


Source = Annotated[
    str,
    typer.Argument(
        metavar="SOURCE", help="Name of the source.", autocompletion=names_from(SOURCES, "sources")
    ),
]
Branch = Annotated[str | None, typer.Option(help="The branch that is followed.", show_default="main")]
FolderPath = Annotated[
    str | None,
    typer.Option("--path", metavar="DIR", help="A directory in the repository.", show_default="all of it"),
]
Interval = Annotated[
    float | None,
    typer.Option(
        parser=duration, metavar="SPAN", help="How often it is looked at, such as 1m.", show_default="5m"
    ),
]
TokenSecret = Annotated[
    str | None,
    typer.Option(
        "--token-secret",
        metavar="SECRET",
        autocompletion=SECRETS,
        help="Secret with a token, for https.",
        show_default=False,
    ),
]
Username = Annotated[
    str | None,
    typer.Option(metavar="NAME", help="The user's name that goes with the token.", show_default="git"),
]
KeySecret = Annotated[
    str | None,
    typer.Option(
        "--ssh-key-secret",
        metavar="SECRET",
        autocompletion=SECRETS,
        help="Secret with a private key, for ssh.",
        show_default=False,
    ),
]
KnownHosts = Annotated[
    str | None,
    typer.Option(
        "--known-hosts",
        metavar="FILE",
        help="The keys of the host, for ssh: see ssh-keyscan(1).",
        show_default=False,
    ),
]
AllowedSigners = Annotated[
    str | None,
    typer.Option(
        "--allowed-signers",
        metavar="FILE",
        help="The newest commit must be signed by one of these keys of ssh: see ssh-keygen(1).",
        show_default=False,
    ),
]
GpgKeys = Annotated[
    str | None,
    typer.Option(
        "--gpg-keys",
        metavar="FILE",
        help="The newest commit must be signed by one of these keys of GnuPG, in ASCII armour.",
        show_default=False,
    ),
]
WebhookSecret = Annotated[
    str | None,
    typer.Option(
        "--webhook-secret",
        metavar="SECRET",
        autocompletion=SECRETS,
        help="Secret with which webhooks are signed.",
        show_default=False,
    ),
]
WhenDeleted = Annotated[
    Deletion | None,
    typer.Option(
        "--deletion",
        help="What becomes of an object whose document is gone: it stays and is nobody's, or is removed.",
        show_default="orphan",
    ),
]


def said(given: Mapping[str, Any]) -> dict[str, Any]:
    """What was said, in the API's words. Raises `CliError` if a file cannot be read."""
    found = {key: value for key, value in given.items() if value is not None}
    for key in ("knownHosts", "allowedSigners", "gpgKeys"):
        if key in found:
            found[key] = _text(found[key])
    if "intervalSeconds" in found:
        found["intervalSeconds"] = int(found["intervalSeconds"])
    if "deletion" in found:
        found["deletion"] = found["deletion"].value
    return found


def of(path: str) -> str:
    """The address of one source."""
    from urllib.parse import quote

    return f"{SOURCES}/{quote(path, safe='')}"


def _text(path: str) -> str:
    try:
        return read_file(path).decode()
    except UnicodeDecodeError as error:
        raise CliError(f"{path} is no text in UTF-8: byte {error.start} does not fit") from None
