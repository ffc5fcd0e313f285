"""One real host for all pages of the documents."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.cli.conftest import command, own_environment
from tests.cli.instances import Command as Process

__all__ = ["command", "own_environment"]


@dataclass(frozen=True)
class Host:
    """A host that runs, with a satellite `local`."""

    data_dir: Path
    url: str


@pytest.fixture(scope="module")
def host() -> Iterator[Host]:
    with tempfile.TemporaryDirectory(prefix="ringfence-test-") as directory:
        Path(directory).chmod(0o711)
        data_dir = Path(directory, "data")
        up = Process("up", "--port", "0", "--data-dir", str(data_dir), RINGFENCE_DATA_DIR=str(data_dir))
        try:
            up.until_it_says("Ctrl-C")
            [url] = re.findall(r"running at (http://\S+:\d+)", up.output)
            yield Host(data_dir, url)
        finally:
            up.process.terminate()
            up.ended()
            up.end()
