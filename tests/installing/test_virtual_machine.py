"""What only a machine shows that systemd manages: shown in a virtual machine, with systemd as its process 1."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.primitives import requires
from tools.vm import machine


@pytest.mark.slow
@requires("virtual machine", "systemd")
def test_systemd_starts_the_agent_that_was_installed(tmp_path: Path) -> None:
    where = "tests/installing/machine"
    options = ["-n", "0", "-p", "no:cacheprovider", f"--confcutdir={where}"]
    output = tmp_path / "output"
    with output.open("wb") as file:
        command = [sys.executable, "-m", "pytest", *options, where]
        status = machine.run(command, output=file.fileno(), timeout_s=900)
    said = output.read_text(errors="replace")
    assert status == 0, said
    assert "1 passed" in said
