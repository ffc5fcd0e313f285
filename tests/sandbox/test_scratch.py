"""Scratch directories of runs without namespaces: who removes them, and what is never removed."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from ringfence.sandbox.launch.making import scratch
from ringfence.sandbox.launch.making.scratch import Scratch, remove_orphans

from tests.primitives import requires
from tests.waiting import until, wait_until

UID = 65532 if os.geteuid() == 0 else os.geteuid()

SUPERVISOR = """
import asyncio, sys
from tests.sandbox.test_plain import run_degraded
asyncio.run(run_degraded("shell", sys.argv[1], timeout_ms=600_000))
"""


@pytest.fixture
def temporary(open_directory: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory for temporary files that is this test's own, as open as the system's."""
    open_directory.chmod(0o1777)
    monkeypatch.setenv("TMPDIR", str(open_directory))
    monkeypatch.setattr(tempfile, "tempdir", None)
    return open_directory


@contextlib.contextmanager
def supervisor(script: str, says: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A supervisor in the middle of a degraded run, once the script has made the file `says`."""
    with subprocess.Popen([sys.executable, "-c", SUPERVISOR, script]) as process:
        try:
            wait_for(says.exists, process)
            yield process
        finally:
            process.kill()


def wait_for(condition: Callable[[], object], process: subprocess.Popen[bytes]) -> None:
    """Wait, while the process lives."""

    def holds() -> bool:
        assert process.poll() is None, "it ended before"
        return bool(condition())

    wait_until(holds)


async def test_the_next_start_removes_what_a_killed_supervisor_left_and_follows_no_link_out(
    temporary: Path,
) -> None:
    target, says = temporary / "target", temporary / "says"
    target.mkdir()
    target.chmod(0o777)
    (target / "precious").write_text("kept")
    script = (
        f"ln -s {target} out; mkdir -p a/b; ln -s {target} a/out; ln -s {target}/precious a/b/file; "
        f"ln {target}/precious a/hard; chmod 0 a/b a; touch {says}; sleep 600"
    )
    with supervisor(script, says) as process:
        [place] = temporary.glob(f"{scratch.PREFIX}*")
        remove_orphans()
        assert (place / "home").is_dir(), "it was in use"
        process.send_signal(signal.SIGKILL)
        process.wait()

    def removed() -> bool:
        # Once the spawner has ended the script, which it does when it finds its supervisor gone.
        remove_orphans()
        return not place.exists()

    await until(removed)
    assert (target / "precious").read_text() == "kept"
    assert target.stat().st_mode & 0o777 == 0o777


async def test_a_directory_that_is_swapped_for_a_link_while_it_is_removed_leads_nowhere(
    temporary: Path,
) -> None:
    target = temporary / "target"
    target.mkdir()
    (target / "precious").write_text("kept")
    place = Scratch(UID, UID)
    victim = Path(place.home, "victim")
    victim.mkdir()
    is_directory = scratch._is_directory

    def swapping(parent: int, name: str) -> bool:
        found = is_directory(parent, name)
        if name == "victim" and victim.is_dir() and not victim.is_symlink():
            victim.rename(victim.with_name("aside"))
            victim.symlink_to(target)
        return found

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(scratch, "_is_directory", swapping)
        place.close()
    assert not Path(place.home).exists()
    assert (target / "precious").read_text() == "kept"


def test_a_tree_deeper_than_any_path_or_descriptor_reaches_is_removed(temporary: Path) -> None:
    place = Scratch(UID, UID)
    at = os.open(place.home, os.O_RDONLY)
    for _ in range(5000):
        os.mkdir("deeper", dir_fd=at)
        inner = os.open("deeper", os.O_RDONLY, dir_fd=at)
        os.close(at)
        at = inner
    os.close(at)
    place.close()
    assert list(temporary.iterdir()) == []


def test_neither_name_nor_content_makes_a_directory_ours(temporary: Path) -> None:
    lockless = temporary / f"{scratch.PREFIX}lockless"
    foreign_lock = temporary / f"{scratch.PREFIX}foreign"
    linked_lock = temporary / f"{scratch.PREFIX}linked"
    for directory in (lockless, foreign_lock, linked_lock):
        (directory / "home").mkdir(parents=True)
    (foreign_lock / "lock").write_text("somebody else's\n")
    words = temporary / "words"
    words.write_bytes(scratch._WORDS)
    (linked_lock / "lock").symlink_to(words)
    link = temporary / f"{scratch.PREFIX}link"
    link.symlink_to(lockless)
    before = sorted(temporary.rglob("*"))
    remove_orphans()
    assert sorted(temporary.rglob("*")) == before


@requires("root")
def test_a_directory_that_another_user_made_to_look_like_ours_is_left_alone(temporary: Path) -> None:
    forged = temporary / f"{scratch.PREFIX}forged"
    (forged / "home").mkdir(parents=True)
    (forged / "lock").write_bytes(scratch._WORDS)
    for path in (forged, forged / "lock"):
        os.chown(path, UID, UID)
    remove_orphans()
    assert (forged / "home").is_dir()
    # It is for its owner alone that it is not removed.
    for path in (forged, forged / "lock"):
        os.chown(path, 0, 0)
    remove_orphans()
    assert not forged.exists()
