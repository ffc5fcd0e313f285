"""Every command that a document shows does what it says there, against a real host."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.conftest import Command
from tests.documents.blocks import PAGES, ROOT, blocks
from tests.documents.conftest import Host
from tests.documents.reading import Reader
from tests.primitives import requires

pytestmark = [pytest.mark.slow, requires("user namespaces", "node", "relay", "monitoring plugins")]

LISTS = {
    "silence list": "silence end",
    "automation list": "automation delete --yes",
    "check list": "check delete --yes",
    "notify list": "notify remove --yes",
    "secret list": "secret delete --yes",
    "satellite list": "satellite delete --yes",
}
"""What a page may leave behind: how it is listed, and taken away."""


@pytest.fixture
def at_home(host: Host, command: Command, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A directory of the page's own, on the machine of the host; afterwards the host is as it was."""
    monkeypatch.setenv("RINGFENCE_DATA_DIR", str(host.data_dir))
    monkeypatch.setenv("HOST_URL", host.url)
    monkeypatch.setenv("ROOT", str(ROOT))
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setenv("VISUAL", "true")
    with tempfile.TemporaryDirectory(prefix="ringfence-test-") as directory, contextlib.chdir(directory):
        Path(directory).chmod(0o711)
        yield
    for listing, ending in LISTS.items():
        for name in command(*listing.split(), "-o", "name").stdout.split():
            if name != "local":
                outcome = command(*ending.split(), name)
                assert outcome.status == 0, outcome.stderr
    assert command("policy", "set", "{}", "--yes").status == 0


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
@pytest.mark.usefixtures("at_home")
def test_a_page_can_be_followed_from_top_to_bottom(page: Path, command: Command) -> None:
    reader = Reader(command)
    try:
        reader.follow(blocks(page))
    finally:
        reader.end()
