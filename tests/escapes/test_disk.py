"""Filling the disk: large files, many files, empty files, and what is left behind."""

from __future__ import annotations

import pytest
from ringfence.scripts import Stopped

from tests.escapes.conftest import Supervisor

MiB = 1024 * 1024
POLICY = {"resources": {"maxScratchBytes": 4 * MiB}}


@pytest.mark.parametrize("place", ["/tmp", "~", "/dev/shm"])
def test_all_writable_places_together_hold_no_more_than_the_limit(supervisor: Supervisor, place: str) -> None:
    script = (
        f"head -c 3M /dev/zero > ~/first; cd {place}; cat /dev/zero > second; du -cb ~/first second | tail -1"
    )
    result = supervisor.run("shell", script, policy=POLICY)
    assert "No space left" in result.stderr
    assert int(result.stdout.split()[0]) <= 4 * MiB


def test_many_small_files_hold_no_more_either(supervisor: Supervisor) -> None:
    script = """
import os
written = 0
try:
    while written < 10_000:
        with open(f'/tmp/{written}', 'w') as file:
            file.write('x')
        written += 1
except OSError as error:
    pass
print(written)
"""
    result = supervisor.run("python", script, policy=POLICY)
    assert result.stopped is Stopped.FILES or int(result.stdout) <= 1024


def test_a_million_empty_files_are_not_to_be_had(supervisor: Supervisor) -> None:
    script = """
import os
for n in range(1_000_000):
    os.close(os.open(f'/tmp/{n}', os.O_CREAT))
print('made them')
"""
    result = supervisor.run("python", script, policy=POLICY)
    assert result.stopped is Stopped.FILES
    assert result.exit_code == -9


def test_one_file_is_no_larger_than_its_own_limit(supervisor: Supervisor) -> None:
    policy = {"resources": {"maxFileSizeBytes": 1 * MiB}}
    result = supervisor.run("shell", "cat /dev/zero > ~/file; wc -c < ~/file", policy=policy)
    assert int(result.stdout) == MiB


def test_a_file_made_large_without_writing_is_bounded_too(supervisor: Supervisor) -> None:
    script = """
import os
f = os.open('/tmp/f', os.O_CREAT | os.O_RDWR)
for attempt in (lambda: os.ftruncate(f, 2**30), lambda: os.posix_fallocate(f, 0, 2**30)):
    try:
        attempt()
        print('had it')
    except OSError:
        print('refused')
"""
    import_signal = "import signal; signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
    policy = {"resources": {"maxFileSizeBytes": 1 * MiB}}
    assert supervisor.run("python", import_signal + script, policy=policy).stdout.split() == ["refused"] * 2
