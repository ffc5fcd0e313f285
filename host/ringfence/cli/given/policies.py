"""The policy that holds for a run on this machine which a command starts, and where it comes from."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from ringfence.cli import output
from ringfence.cli.client import HostClient
from ringfence.cli.command_tree import plugged
from ringfence.cli.given.documents import read_object
from ringfence.process.errors import CliError, UsageMistake

if TYPE_CHECKING:
    from ringfence.sandbox import PolicySnapshot


def policy_from_file(source: str) -> PolicySnapshot:
    """The shipped default with the partial policy in a file (`-`: standard input) over it.

    Raises:
        UsageMistake: if there is none, naming every problem in it.
    """
    from ringfence.sandbox import DEFAULT_POLICY, PolicyError, PolicySnapshot, PolicySource, overlay

    try:
        chosen = overlay(DEFAULT_POLICY, read_object(source, sys.stdin.buffer))
    except PolicyError as error:
        problems = "\n".join(f"  {problem}" for problem in error.problems)
        raise UsageMistake(f"{source} is not a policy", hint=problems) from error
    return PolicySnapshot(chosen, source=PolicySource.FILE)


def policy_here(file: str | None, *, quiet: bool) -> PolicySnapshot:
    """The policy in a file, or the host's where one can be read; the fail-closed profile otherwise.

    Never the permissive path. Unless `quiet`, a note says why the fail-closed profile holds.
    """
    from ringfence.sandbox import PolicySnapshot

    if file is not None:
        return policy_from_file(file)
    try:
        with HostClient.connect() as host:
            found: PolicySnapshot | None = plugged().hook.policy_for_run(host=host)
    except CliError as error:
        if not quiet:
            output.note(
                f"no host's policy can be read, so the fail-closed profile holds ({output.line(error)})"
            )
        return PolicySnapshot.fail_closed(f"no host's policy can be read: {error}")
    return found or PolicySnapshot.fail_closed("no plugin of this installation knows of a host's policy")
