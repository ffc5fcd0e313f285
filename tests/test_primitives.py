"""Nothing is skipped in silence: what a test lacks is named, and is a failure where everything is required."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
NEEDS_NODE = """
import pytest
from tests.primitives import requires

@requires("node")
def test_with_node():
    pass

@pytest.mark.parametrize("way", [pytest.param("node", marks=requires("node"))])
def test_one_way_with_node(way):
    pass
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("required", "status", "says"),
    [("0", 0, "this machine lacks: node"), ("1", 1, "this machine lacks: node, and all are required")],
)
def test_what_is_lacking_is_skipped_by_name_or_fails_where_all_is_required(
    tmp_path: Path, required: str, status: int, says: str
) -> None:
    file = tmp_path / "test_node.py"
    file.write_text(NEEDS_NODE)
    finished = subprocess.run(
        [
            *(sys.executable, "-m", "pytest", "-n", "0", "-p", "no:cacheprovider"),
            *("-c", ROOT / "pyproject.toml", "-p", "tests.conftest", file),
        ],
        cwd=ROOT,
        env={"PATH": str(tmp_path), "RINGFENCE_REQUIRE_ALL": required},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert finished.returncode == status, finished.stdout + finished.stderr
    assert finished.stdout.count(says) >= 2, finished.stdout
    assert ("2 skipped" if status == 0 else "2 errors") in finished.stdout
