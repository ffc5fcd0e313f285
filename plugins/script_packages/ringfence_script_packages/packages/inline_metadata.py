"""What a script in Python says in its own text that it imports: inline script metadata (PEP 723). Pure.

Threat: a text that takes long to read, or means something else to another reader. Mechanism: it is read line by line,
in one pass, and just as the reference implementation of the PEP reads it.
"""

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass

from packaging.specifiers import InvalidSpecifier, SpecifierSet
from ringfence.scripts.packages.lock import Ecosystem

from ringfence_script_packages.packages.requirements import RequirementError, Wanted

MOST_DEPENDENCIES = 200
_BEGIN = re.compile(r"# /// ([a-zA-Z0-9-]+)", re.ASCII)
_END = "# ///"
_SCRIPT = "script"
_LONGEST_RANGE = 200


class InlineMetadataError(ValueError):
    """What a script says of itself cannot be understood; the message says why."""


@dataclass(frozen=True, slots=True)
class InlineMetadata:
    """What a script imports, and which versions of Python it is for; None if it does not say."""

    dependencies: tuple[Wanted, ...]
    requires_python: str | None = None


def blocks(source: str) -> list[tuple[str, str]]:
    """The blocks of metadata in a text: the type and the content of each."""
    lines = source.replace("\r\n", "\n").split("\n")
    found = []
    at = 0
    while at < len(lines):
        begin = _BEGIN.fullmatch(lines[at])
        if begin is None:
            at += 1
            continue
        stop = at + 1
        while stop < len(lines) and (lines[stop] == "#" or lines[stop].startswith("# ")):
            stop += 1
        # It ends at the last line that can be its end, and has a line of content at least.
        end = next((number for number in range(stop - 1, at + 1, -1) if lines[number] == _END), None)
        if end is not None:
            content = "".join(
                f"{line[2:] if line.startswith('# ') else line[1:]}\n" for line in lines[at + 1 : end]
            )
            found.append((begin[1], content))
            at = end + 1
        else:
            at = stop
    return found


def read(source: str) -> InlineMetadata | None:
    """What a script says that it imports; None if it says nothing. Raises `InlineMetadataError`."""
    scripts = [content for kind, content in blocks(source) if kind == _SCRIPT]
    if not scripts:
        return None
    if len(scripts) > 1:
        raise InlineMetadataError("the script has several blocks `# /// script`: there may be one")
    try:
        told = tomllib.loads(scripts[0])
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise InlineMetadataError(f"the block `# /// script` is not TOML: {error}") from error
    given = told.get("dependencies", [])
    if not isinstance(given, list) or not all(isinstance(one, str) for one in given):
        raise InlineMetadataError("dependencies in the block `# /// script` must be a list of texts")
    if len(given) > MOST_DEPENDENCIES:
        raise InlineMetadataError(f"a script may have {MOST_DEPENDENCIES} dependencies, not {len(given)}")
    requires = _python_versions(told.get("requires-python"))
    try:
        return InlineMetadata(tuple(Wanted.parse(Ecosystem.PYPI, one) for one in given), requires)
    except RequirementError as error:
        raise InlineMetadataError(str(error)) from error


def _python_versions(given: object) -> str | None:
    """A range of versions of Python, in one spelling."""
    if given is None:
        return None
    if not isinstance(given, str) or len(given) > _LONGEST_RANGE:
        raise InlineMetadataError(
            "requires-python in the block `# /// script` must be a text such as '>=3.11'"
        )
    try:
        return ",".join(sorted(map(str, SpecifierSet(given)))) or None
    except InvalidSpecifier as error:
        raise InlineMetadataError(
            f"requires-python in the block `# /// script` is no range of versions such as '>=3.11': {given!r}"
        ) from error
