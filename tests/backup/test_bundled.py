"""The bundled database of `ringfence up`: backed up while it runs, and restored into another data directory."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.cli.instances import RINGFENCE, Command
from tests.waiting import PATIENCE_SECONDS


def ask(data_dir: Path, *arguments: str, given: str = "") -> Any:
    """Run a command on a data directory; its JSON."""
    done = subprocess.run(
        [*RINGFENCE, *arguments, "--json"],
        input=given,
        capture_output=True,
        text=True,
        timeout=PATIENCE_SECONDS,
        env={"RINGFENCE_DATA_DIR": str(data_dir), "PATH": "/usr/bin:/bin"},
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.slow
def test_it_is_backed_up_while_it_runs_and_another_host_goes_on_from_there(open_directory: Path) -> None:
    old, new = open_directory / "old", open_directory / "new"
    file = open_directory / "the.backup"
    running = Command("up", "--port", "0", "--data-dir", str(old), "--no-satellite")
    try:
        running.until_it_says("Ctrl-C")
        ask(old, "policy", "set", "resources.cpuSeconds=7", "--yes")
        ask(old, "secret", "set", "WORD", given="its value")
        made = ask(old, "backup", str(file), "--include-keys")
        assert made["manifest"]["contents"]["streams"] == {"sandbox-policy": 1}
        # A restore waits for nobody: a host runs on this one.
        refused = subprocess.run(
            [*RINGFENCE, "restore", str(file), "--replace", "--yes", "--data-dir", str(old)],
            capture_output=True,
            text=True,
        )
        assert refused.returncode == 1
        assert "is in use by process" in refused.stderr
    finally:
        running.end()
    restored = ask(new, "restore", str(file))
    assert (restored["unreadable"], restored["missingKeys"]) == ({}, [])
    again = Command("up", "--port", "0", "--data-dir", str(new), "--no-satellite")
    try:
        again.until_it_says("Ctrl-C")
        shown = ask(new, "policy", "show")
        assert (shown["revision"], shown["policy"]["resources"]["cpuSeconds"]) == (1, 7)
        assert [one["name"] for one in ask(new, "secret", "list")["secrets"]] == ["WORD"]
    finally:
        again.end()
