"""What only a kernel with limiting cgroups, or a machine that systemd manages, shows: shown in a virtual machine.

An emulated machine takes minutes to start and to import what tests need, so there is one for all of it.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path

import pytest

from tests.primitives import has, requires
from tools.vm import machine

CGROUPS = "test_groups or (uid-65532 and (every_kind or processes or processor_time or cannot_lift))"
"""What a cgroup does by itself, and limits under a supervisor that is not root. `make vm` runs the rest too."""

SCOPES = (
    "test_scope and (no_look_would_find or fork_bomb or kill or two_supervisors or somebody_has_stopped or "
    "users_own_manager)"
)
"""What holds in a scope of systemd's, and how it ends."""

SERVICES = "test_an_agent_as_a_service"

OPTIONS = ("-n", "0", "-p", "no:cacheprovider", "--confcutdir=tests/cgroups", "--durations=10")


@pytest.mark.slow
@requires("virtual machine", "systemd")
def test_a_stock_kernel_and_systemd_keep_limits_end_scopes_and_start_the_agent(tmp_path: Path) -> None:
    """Each part is shown by tests that pass there, and none is skipped."""
    # Where the kernel itself limits, the tests of cgroups are run without a machine around them.
    parts = {"tests/installing/machine": SERVICES}
    if not has("limiting cgroups"):
        parts = {"tests/cgroups/test_groups.py": CGROUPS, "tests/cgroups/test_scope.py": SCOPES, **parts}
    output = tmp_path / "output"
    with output.open("wb") as file:
        status = machine.run(command(parts.values()), output=file.fileno(), timeout_s=1140)
    said = output.read_text(errors="replace")
    assert status == 0, said
    assert " passed" in said
    assert "skipped" not in said
    assert [part for part in parts if f"\n{part}" not in said] == []


def command(chosen: Iterable[str]) -> list[str]:
    """What is run in the machine."""
    words = " or ".join(f"({each})" for each in chosen)
    return [
        sys.executable,
        "-m",
        "pytest",
        *OPTIONS,
        "-k",
        words,
        "tests/cgroups",
        "tests/installing/machine",
    ]
