"""Becoming somebody else: setuid programs, file capabilities, plain calls."""

from __future__ import annotations

import os

import pytest
from ringfence.sandbox.identities.uids import DEFAULT

from tests.escapes.conftest import Supervisor

pytestmark = pytest.mark.every_wrapper


def test_the_script_is_not_root_and_cannot_become_it(supervisor: Supervisor) -> None:
    script = """
import os
print(os.getresuid(), os.getresgid(), [g for g in os.getgroups() if g == 0])
for attempt in (lambda: os.setuid(0), lambda: os.setgid(0), lambda: os.setgroups([0]), lambda: os.setresuid(0, 0, 0)):
    try:
        attempt()
        print('became')
    except OSError:
        pass
"""
    uid = supervisor.uid
    assert supervisor.run("python", script).stdout == f"({uid}, {uid}, {uid}) ({uid}, {uid}, {uid}) []\n"


def test_what_the_script_is_seen_as_from_outside_is_not_root_either(supervisor: Supervisor) -> None:
    # Who a mount in memory belongs to is told as the host counts (shmem_show_options in mm/shmem.c), root untold; a
    # map of uids tells of the namespace around, in which it may be root (user_namespaces(7)).
    result = supervisor.run(
        "shell", "touch /tmp/x; stat -c %u /tmp/x; cat /proc/self/uid_map; grep ' /tmp ' /proc/mounts"
    )
    owner, inside, _, _, *mount = result.stdout.split()
    assert int(owner) == int(inside) == supervisor.uid != 0
    (outside,) = [int(option[4:]) for option in mount[3].split(",") if option.startswith("uid=")]
    own = os.stat(f"/proc/{supervisor.pid}").st_uid
    has_one_to_itself = "a uid of the run's own" in result.sandbox.mechanisms["privilege"]
    assert has_one_to_itself or own != 0
    assert (outside != own) if has_one_to_itself else (outside == own)
    assert outside in DEFAULT or own != 0


def test_setuid_programs_give_nothing(supervisor: Supervisor) -> None:
    script = """
for program in /usr/bin/su /usr/bin/sudo /usr/bin/passwd /usr/bin/chsh /usr/bin/mount /usr/bin/newuidmap /usr/bin/pkexec
do [ -u $program ] && $program --help >/dev/null 2>&1; done
cp /usr/bin/id /tmp/id; chmod 4755 /tmp/id; /tmp/id -u; /usr/bin/id -u
"""
    assert set(supervisor.run("shell", script).stdout.split()) == {str(supervisor.uid)}


def test_no_file_of_the_host_is_writable_by_way_of_ownership(supervisor: Supervisor) -> None:
    script = "find /usr /etc -xdev -maxdepth 2 -writable ! -type l 2>/dev/null | head -3"
    assert supervisor.run("shell", script).stdout == ""
