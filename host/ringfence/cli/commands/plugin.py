"""`ringfence plugin`: for authors, what a plugin begins with and its next migration."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated

import typer

from ringfence.cli import output, skeleton
from ringfence.cli.options import asks_no_host
from ringfence.process.errors import CliError

app = typer.Typer(help="Begin a plugin of your own, or its next migration.", no_args_is_help=True)

_ID = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")
_REVISION = re.compile(r'^revision\s*(?::\s*\w+\s*)?=\s*["\']([^"\']+)["\']', re.MULTILINE)
_DOWN_REVISION = re.compile(r'^down_revision\s*(?::[^=]+)?=\s*["\']([^"\']+)["\']', re.MULTILINE)


@app.command("new")
@asks_no_host
def new(
    name: Annotated[
        str, typer.Argument(help="Id of the plugin, such as `disk-diary`: small letters, digits, hyphens.")
    ],
    directory: Annotated[
        Path | None,
        typer.Option(help="Directory to make it in; by default one of that name in the current directory."),
    ] = None,
) -> None:
    """Make a plugin that works, with a route, a table and tests."""
    if not _ID.fullmatch(name):
        raise CliError(
            f"{name!r} cannot be the id of a plugin",
            hint="Begin with a letter; small letters, digits and single hyphens may follow.",
        )
    place = Path(name) if directory is None else directory
    if place.exists() and (not place.is_dir() or any(place.iterdir())):
        raise CliError(
            f"{place} already exists, and is not empty", hint="Choose another place with --directory."
        )
    for path, text in skeleton.files(name).items():
        _write(place / path, text)
    output.say(f"Made the plugin {name} in {place}.")
    output.say(f"Try its tests: cd {place} && pip install -e '.[test]' && pytest")


@app.command("migration")
@asks_no_host
def migration(
    name: Annotated[
        str, typer.Argument(help="What the migration does, in a word or two, such as `authors`.")
    ],
    directory: Annotated[
        Path | None,
        typer.Option(help="The package of migrations; by default the one beneath `src` of this directory."),
    ] = None,
) -> None:
    """Make the next revision of a plugin's tables, with the one before it filled in."""
    place = _migrations() if directory is None else directory
    if not place.is_dir():
        raise CliError(
            f"{place} is not a directory",
            hint="Make the package of migrations first, and name it with --directory.",
        )
    word = re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_")
    if not word:
        raise CliError(
            f"{name!r} has no letter or digit", hint="Say in a word or two what the migration does."
        )
    last = _last(place)
    number = 1 if last is None else _number(last) + 1
    path = place / f"{number:04}_{word}.py"
    _write(path, skeleton.migration(f"{number:04}", last, name))
    output.say(f"Made {path}, which comes after {last or 'nothing'}.")


def _migrations() -> Path:
    found = sorted(path for path in Path("src").glob("*/migrations") if path.is_dir())
    if len(found) != 1:
        raise CliError(
            "there is no package of migrations beneath src here"
            if not found
            else f"there are several packages of migrations here: {', '.join(map(str, found))}",
            hint="Name it with --directory.",
        )
    return found[0]


def _last(place: Path) -> str | None:
    """The revision that no other comes after; None if there is none yet."""
    texts = [path.read_text(encoding="utf-8") for path in sorted(place.glob("*.py"))]
    revisions = [found[1] for text in texts if (found := _REVISION.search(text))]
    before = {found[1] for text in texts if (found := _DOWN_REVISION.search(text))}
    heads = [revision for revision in revisions if revision not in before]
    if len(heads) > 1:
        raise CliError(
            f"several revisions in {place} have none after them: {', '.join(heads)}",
            hint="Give one of them the other as its down_revision.",
        )
    return heads[0] if heads else None


def _number(revision: str) -> int:
    digits = re.findall(r"\d+", revision)
    return int(digits[-1]) if digits else 0


def _write(path: Path, text: str) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("x", encoding="utf-8") as file:
            file.write(text)
    except OSError as error:
        raise CliError(f"cannot write {path}: {error.strerror}") from error
