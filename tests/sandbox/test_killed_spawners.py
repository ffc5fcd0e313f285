"""What is left of runs when what started them is killed at any moment: nothing."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.escapes import reach
from tests.primitives import lacking, requires

pytestmark = pytest.mark.slow

STORM = Path(__file__).with_name("storm.py")

POLICIES = {
    "no link": {"policy": {}, "longest": 0.02, "rounds": 60},
    "allowlist": {"policy": {"network": {"allow": ["192.0.2.1:443"]}}, "longest": 0.3, "rounds": 30},
}
"""The runs, and by when all of them are made on most machines."""


def left_by(python: str, program: Path, order: dict[str, Any], **how: Any) -> list[str]:
    """What a storm leaves."""
    done = subprocess.run(
        [python, str(program), json.dumps({"seed": os.getpid(), **order})],
        stdout=subprocess.PIPE,
        check=True,
        timeout=300,
        **how,
    )
    found = json.loads(done.stdout)
    assert isinstance(found, list)
    return found


@pytest.mark.parametrize(
    "runs",
    [
        pytest.param("no link", marks=requires("user namespaces")),
        pytest.param("allowlist", marks=requires("user namespaces", "tun", "slirp4netns", "nft", "ip")),
    ],
)
def test_nothing_is_left_of_runs_whose_spawner_or_supervisor_is_killed_while_they_start(runs: str) -> None:
    assert left_by(sys.executable, STORM, POLICIES[runs]) == []


@requires("root", "user namespaces")
def test_nor_where_the_supervisor_is_an_ordinary_user(open_directory: Path) -> None:
    open_directory.chmod(0o755)
    reach.copy_package(open_directory)
    shutil.copy(STORM, open_directory)
    python = reach.reachable_python(open_directory) or lacking("no Python that another uid can run")
    other = {"user": reach.OTHER_UID, "group": reach.OTHER_UID, "extra_groups": []}
    assert (
        left_by(
            python,
            open_directory / STORM.name,
            POLICIES["no link"],
            env=reach.environment(open_directory),
            cwd="/",
            **other,
        )
        == []
    )
