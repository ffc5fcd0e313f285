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
from ringfence.sandbox.launch.making.places import PREFIX
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
        [place] = temporary.glob(f"{PREFIX}of-*/*")
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
    lockless = temporary / f"{PREFIX}lockless"
    foreign_lock = temporary / f"{PREFIX}foreign"
    linked_lock = temporary / f"{PREFIX}linked"
    for directory in (lockless, foreign_lock, linked_lock):
        (directory / "home").mkdir(parents=True)
    (foreign_lock / "lock").write_text("somebody else's\n")
    words = temporary / "words"
    words.write_bytes(scratch._WORDS)
    (linked_lock / "lock").symlink_to(words)
    link = temporary / f"{PREFIX}link"
    link.symlink_to(lockless)
    before = sorted(temporary.rglob("*"))
    remove_orphans()
    assert sorted(temporary.rglob("*")) == before


@requires("root")
def test_a_directory_that_another_user_made_to_look_like_ours_is_left_alone(temporary: Path) -> None:
    forged = temporary / f"{PREFIX}forged"
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


@pytest.mark.parametrize("how", ["link", "writable", "file"])
def test_no_place_is_made_where_somebody_else_could_change_it(temporary: Path, how: str) -> None:
    """Anybody can make something of that name among the temporary files, before us."""
    of_ours, elsewhere = temporary / f"{PREFIX}of-{os.geteuid()}", temporary / "elsewhere"
    elsewhere.mkdir()
    if how == "link":
        of_ours.symlink_to(elsewhere)
    elif how == "writable":
        of_ours.mkdir()
        of_ours.chmod(0o777)
    else:
        of_ours.touch()
    place = scratch.Place(str(temporary))
    assert Path(place.path).parent == temporary
    place.close()
    assert list(elsewhere.iterdir()) == []


KEEPING = """
import sys
from ringfence.sandbox.launch.making.places import keep_places
keep_places(sys.argv[1])
print("kept", flush=True)
sys.stdin.read()
"""


def test_where_places_are_goes_with_the_last_one_unless_a_run_has_it_covered(temporary: Path) -> None:
    """If it went and came again, the run would have the one covered that went."""
    everything = temporary / f"{PREFIX}of-{os.geteuid()}"
    command = [sys.executable, "-c", KEEPING, str(temporary)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as keeping:
        assert keeping.stdout is not None
        assert keeping.stdout.readline() == b"kept\n"
        was = everything.stat().st_ino
        scratch.Place(str(temporary)).close()
        assert everything.stat().st_ino == was
        keeping.communicate()
    assert list(temporary.iterdir()) == []
    scratch.Place(str(temporary)).close()
    assert list(temporary.iterdir()) == []
