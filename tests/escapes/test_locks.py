"""Locks on files that the host and other runs use as well."""

from __future__ import annotations

import fcntl
import os
import tempfile
from pathlib import Path

import pytest

from tests.escapes.conftest import Supervisor
from tests.primitives import requires

PLACES = (
    "/usr",
    "/usr/bin/env",
    "/usr/lib",
    "/etc/alternatives",
    "/etc/ssl/certs",
    "/etc/ld.so.cache",
    "/etc/localtime",
)


def test_a_lock_on_a_file_of_the_system_is_nobody_elses(supervisor: Supervisor) -> None:
    """The host holds one on each, and so would another run: the script locks each for itself alone all the same."""
    places = [place for place in PLACES if Path(place).exists()]
    script = """
import fcntl
for place in context:
    for kind in (fcntl.LOCK_EX, fcntl.LOCK_SH):
        descriptor = os.open(place, os.O_RDONLY)
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
        os.close(descriptor)
    if os.path.isfile(place):
        fcntl.lockf(os.open(place, os.O_RDONLY), fcntl.LOCK_SH | fcntl.LOCK_NB)
print('locked', len(context))
"""
    held = [os.open(place, os.O_RDONLY) for place in places]
    try:
        for descriptor in held:
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        result = supervisor.run("python", "import os\n" + script, context=places)
    finally:
        for descriptor in held:
            os.close(descriptor)

    assert (result.stdout, result.stderr) == (f"locked {len(places)}\n", "")


def test_no_file_of_the_system_is_the_same_one_as_the_hosts(supervisor: Supervisor) -> None:
    places = [place for place in PLACES if Path(place).exists()]
    script = "import os\nprint(*(f'{os.stat(p).st_dev}:{os.stat(p).st_ino}' for p in context))"

    inside = supervisor.run("python", script, context=places).stdout.split()

    outside = [f"{os.stat(place).st_dev}:{os.stat(place).st_ino}" for place in places]
    assert len(inside) == len(outside)
    assert set(inside).isdisjoint(outside)


def test_a_device_is_the_hosts_own_and_so_is_a_lock_on_it(supervisor: Supervisor) -> None:
    """Not what one would want, but what the docs say."""
    with open("/dev/urandom", "rb") as device:
        fcntl.flock(device, fcntl.LOCK_SH)
        result = supervisor.run("shell", "flock -n -x /dev/urandom true || echo held")
    assert (result.stdout, result.stderr) == ("held\n", "")


def test_locks_between_processes_of_one_run_work(supervisor: Supervisor) -> None:
    script = """
cd /tmp; : > mine
for file in mine /usr/bin/env; do
  flock $file sh -c "flock -n $file true && echo twice; true"
  flock -n $file true && echo free
done"""
    result = supervisor.run("shell", script)
    assert (result.stdout, result.stderr) == ("free\nfree\n".replace("\\\n", "\n"), "")


@requires("root")
@pytest.mark.parametrize("mode", ["off"])
def test_where_the_policy_gives_the_hosts_files_the_report_says_what_that_means_for_locks(
    cold_supervisor: Supervisor, mode: str
) -> None:
    with tempfile.NamedTemporaryFile(dir="/var/tmp") as file:
        os.chmod(file.name, 0o644)
        fcntl.flock(file.fileno(), fcntl.LOCK_EX)
        script = f"flock -n {file.name} true || echo kept out"
        result = cold_supervisor.run("shell", script, policy={"filesystem": {"mode": mode}})

    assert result.stdout == "kept out\n"
    assert any(
        "a lock that the script takes on one also blocks the host" in note.note
        for note in result.sandbox.notes
    )
