"""What only a kernel with limiting cgroups shows, where this machine's has none: shown in a virtual machine."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.primitives import requires
from tools.vm import machine

CHOSEN = "test_groups or (uid-65532 and (every_kind or processes or processor_time or cannot_lift))"
"""What a cgroup does by itself, and limits under a supervisor that is not root. `make vm` runs the rest too."""


SCOPES = (
    "test_scope and (no_look_would_find or fork_bomb or kill or two_supervisors or somebody_has_stopped or "
    "users_own_manager)"
)
"""What holds in a scope of systemd's, and how it ends."""


@pytest.mark.slow
@requires("virtual machine")
def test_a_stock_kernel_keeps_the_limits_of_delegated_cgroups(tmp_path: Path) -> None:
    shows(CHOSEN, tmp_path)


@pytest.mark.slow
@requires("virtual machine", "systemd")
def test_systemd_gives_a_scope_that_goes_with_its_supervisor(tmp_path: Path) -> None:
    shows(SCOPES, tmp_path)


def shows(chosen: str, tmp_path: Path) -> None:
    """In the virtual machine, these tests pass, and none is skipped."""
    options = ["-n", "0", "-p", "no:cacheprovider", "--confcutdir=tests/cgroups", "-k", chosen]
    command = [sys.executable, "-m", "pytest", *options, "tests/cgroups"]
    output = tmp_path / "output"
    with output.open("wb") as file:
        status = machine.run(command, output=file.fileno(), timeout_s=540)
    said = output.read_text(errors="replace")
    assert status == 0, said
    assert " passed" in said
    assert "skipped" not in said
