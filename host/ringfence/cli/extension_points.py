"""What the host's own commands hand to plugins that add to them: see the moments of a command line in `hookspecs`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeAlias

from ringfence.cli.given.scripts import Kind

if TYPE_CHECKING:
    from rich.text import Text

    from ringfence.cli.client import HostClient
    from ringfence.scripts import NotReady, PackageTree
    from ringfence.storage.datadir import DataDir

Line: TypeAlias = "tuple[str, str | Text]"
"""What `ringfence up` says once it serves: a word and a sentence."""


@dataclass(frozen=True, slots=True)
class Given:
    """A script with its file's name, or a command, and what it is given."""

    script: bytes | None
    name: str = ""
    command: tuple[str, ...] | None = None
    args: tuple[str, ...] = ()
    env: Mapping[str, str] = field(default_factory=dict)
    stdin: bytes | None = None


@dataclass(frozen=True, slots=True)
class ScriptToRun:
    """A script that `ringfence run --satellite` is to run elsewhere, and how."""

    place: str
    kind: Kind
    given: Given
    context: object
    timeout_ms: int
    deliver_within: float
    """Seconds that the run may wait for the place to be there."""
    detach: bool
    """Show which run it is, and wait for nothing."""
    as_json: bool
    needs: Mapping[str, Any] | None = None
    """What it needs of the policy, and no more; None if nobody says."""
    packages: str | None = None
    """The set of packages that it imports from; None if nobody says."""


@dataclass(frozen=True, slots=True)
class PackagesToRun:
    """The set that a run on this machine imports from, and its tree here, or why there is none."""

    set: str
    tree: PackageTree | NotReady


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of it: its result, or None if nobody waits for it, and how much of each stream was shown already."""

    result: dict[str, Any] | None
    shown: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Serving:
    """The instance that `ringfence up` runs, once it answers.

    Where it is, how it is asked as its administrator, and what to type before a command so that it finds this instance.
    """

    url: str
    host: HostClient
    data_dir: DataDir
    prefix: str
