"""Failures that pass by themselves, told from those that are the host's nature."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
from pathlib import Path

import pytest
from ringfence.sandbox import faults
from ringfence.sandbox.egress.link.program import LinkFailed
from ringfence.sandbox.faults import Unavailable, is_passing, status_is_passing
from ringfence.sandbox.processes.attempts import attempt

from tests.primitives import PROGRAMS, requires

USED_UP = ("EAGAIN", "ENOMEM", "ENOSPC", "EMFILE", "ENFILE", "ENOBUFS", "ETOOMANYREFS", "EDQUOT")
NATURE = ("ENOSYS", "EPERM", "EACCES", "ENOENT", "EINVAL", "EOPNOTSUPP", "ENODEV", "ENOEXEC")


@pytest.fixture(autouse=True)
def toggles(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The limits of namespaces, as of a machine that has not turned them off."""
    (tmp_path / "max_user_namespaces").write_text("1000\n")
    monkeypatch.setattr(faults, "_NAMESPACE_LIMITS", tmp_path)
    return tmp_path


@pytest.mark.parametrize("name", USED_UP)
def test_what_is_used_up_may_be_free_again(name: str) -> None:
    number = getattr(errno, name)

    assert is_passing(OSError(number, os.strerror(number)))
    assert is_passing(f"bwrap: Creating new namespace failed: {os.strerror(number)}")
    assert is_passing(f"slirp4netns ended: it said ({name})")
    assert LinkFailed(f"slirp4netns ended: {os.strerror(number)}").passing


@pytest.mark.parametrize("name", NATURE)
def test_what_a_host_does_not_have_stays_so(name: str) -> None:
    number = getattr(errno, name)

    assert not is_passing(OSError(number, os.strerror(number)))
    assert not is_passing(f"bwrap: Creating new namespace failed: {os.strerror(number)}")
    assert not LinkFailed("slirp4netns is not installed").passing


@pytest.mark.parametrize("said", ["No space left on device", "max_*_namespaces exceeded (ENOSPC)"])
def test_too_many_namespaces_where_none_are_allowed_are_the_hosts_nature(said: str, toggles: Path) -> None:
    assert is_passing(said)
    (toggles / "max_net_namespaces").write_text("0\n")

    assert not is_passing(said)
    assert not is_passing(OSError(errno.ENOSPC, "No space left on device"))
    assert is_passing("Cannot allocate memory")


def test_what_took_too_long_or_had_no_room_may_go_another_time() -> None:
    for failure in (
        TimeoutError(),
        subprocess.TimeoutExpired("bwrap", 10),
        MemoryError(),
        RuntimeError("can't start new thread"),
        "sh: 1: Cannot fork",
    ):
        assert is_passing(failure), failure
    assert not is_passing(RuntimeError("no such thing"))


def test_a_program_that_was_killed_tells_nothing_of_the_host() -> None:
    for name in ("KILL", "TERM", "SEGV", "ABRT"):
        assert status_is_passing(-signal.Signals[f"SIG{name}"])
    assert status_is_passing(137)
    for status in (0, 1, 2, 126, 127, -signal.SIGSYS, -signal.SIGILL):
        assert not status_is_passing(status)


@pytest.mark.parametrize(
    ("script", "passing"),
    [
        ("kill -KILL $$", True),
        ("echo 'unshare: unshare failed: Operation not permitted' >&2; exit 1", False),
        ("echo 'unshare: fork failed: Resource temporarily unavailable' >&2; exit 1", True),
    ],
)
def test_an_attempt_says_whether_its_failure_may_pass(script: str, passing: bool) -> None:
    with pytest.raises(Unavailable) as failed:
        attempt(["/bin/sh", "-c", script], None)

    assert failed.value.passing is passing


# In a user namespace of its own, where the limit is its own too: one namespace is held while another is wanted.
_ONE_TOO_MANY = """
import subprocess, sys
with open("/proc/sys/user/max_uts_namespaces", "w") as limit:
    limit.write(sys.argv[1])
unshare = ["unshare", "--uts", "sh", "-c"]
held = subprocess.Popen([*unshare, "echo held; read -r _"], stdin=-1, stdout=-1, stderr=subprocess.DEVNULL)
assert held.stdout.readline() == (b"" if sys.argv[1] == "0" else b"held\\n")
print(subprocess.run([*unshare, "true"], stderr=-1, text=True).stderr)
held.communicate()
"""


@requires("user namespaces")
@pytest.mark.parametrize(("limit", "passing"), [("1", True), ("0", False)])
def test_the_kernels_own_words_for_a_quota_and_for_a_toggle_are_told_apart(
    limit: str, passing: bool, toggles: Path
) -> None:
    (toggles / "max_uts_namespaces").write_text(f"{limit}\n")

    done = subprocess.run(
        ["unshare", "--user", "--map-root-user", "python3", "-c", _ONE_TOO_MANY, limit],
        capture_output=True,
        text=True,
        env={**os.environ, "PATH": PROGRAMS, "LC_ALL": "C"},
    )

    assert "unshare failed" in done.stdout, done
    assert is_passing(done.stdout) is passing
