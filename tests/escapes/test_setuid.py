"""Becoming somebody else: setuid programs, file capabilities, plain calls."""

from __future__ import annotations

from tests.escapes.conftest import Supervisor


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
    # The owner of a namespace's files is what counts for the host: asked of the mount that the script made a file in.
    result = supervisor.run("shell", "touch /tmp/x; stat -c %u /tmp/x; cat /proc/self/uid_map")
    owner, inside, outside, _ = result.stdout.split()
    assert int(owner) == int(inside) == int(outside) == supervisor.uid != 0


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
