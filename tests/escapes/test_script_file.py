"""The script's own file: no run changes it, keeps it, or sees another's."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.escapes.conftest import Supervisor, needs_node
from tests.primitives import requires

needs_scopes = requires("Landlock scopes")

CHANGES = """
before=$(cat "$0")
directory=$(dirname "$0")
{
  chmod u+w "$0"; chmod 777 "$directory"; echo x >>"$0"; cp /bin/true "$0"; truncate -s 0 "$0"
  rm -f "$0"; mv "$0" "$0.aside"; ln -f "$0" "$directory/more"; touch "$directory/more"; mkdir "$directory/inner"
  mv "$directory" /tmp/aside; rmdir "$directory"; rm -rf "$directory"; ln -sfn /tmp/scratch "$directory"
  mount -o remount,rw "$directory"; mount -t tmpfs none "$directory"; umount "$directory"; umount -l "$directory"
  setfattr -n user.x -v y "$0"; chown "$(id -u)" "$0"; touch -d @0 "$0"
  exec 8<"$0" && echo x >/proc/self/fd/8
} >/dev/null 2>&1
[ "$(cat "$0")" = "$before" ] && ls -A "$directory"
ls -ld --time-style=+%Y "$0" | grep -c " 1970 "
"""

LOOKS = """
import os
here = os.path.dirname(__file__)
found = [line.split() for line in open("/proc/self/mountinfo") if line.split()[4] == here]
print(len(found), "ro" in found[0][5].split(","), "nosuid" in found[0][5].split(","))
host = found[0][3]
for place in ("", "/dev/shm", "/tmp", "/run", "/var/tmp"):
    for path in (place + host, place + os.path.dirname(host)):
        try:
            if path != "/" and os.path.dirname(path) != "/":
                print("seen", path, os.listdir(path))
        except OSError:
            pass
"""

OPENS = """
import ctypes, os
libc = ctypes.CDLL(None, use_errno=True)
for flags in (os.O_WRONLY, os.O_RDWR, os.O_WRONLY | os.O_TRUNC, os.O_RDWR | os.O_APPEND):
    for path in (__file__, "/proc/self/cwd/../script/" + os.path.basename(__file__)):
        try:
            os.open(path, flags)
            print("opened", path)
        except OSError:
            pass
reading = os.open(__file__, os.O_RDONLY)
for flags in (os.O_WRONLY, os.O_RDWR):
    try:
        os.open(f"/proc/self/fd/{reading}", flags)
        print("opened anew")
    except OSError:
        pass
print(libc.fchmod(reading, 0o777))
"""


@pytest.mark.every_wrapper
def test_a_script_cannot_change_its_file_nor_where_that_is(supervisor: Supervisor) -> None:
    for name in ("", "check.sh"):
        result = supervisor.run("shell", CHANGES, name=name)
        assert result.stdout == f"{name or 'script.sh'}\n0\n", result


@pytest.mark.every_wrapper
def test_its_file_cannot_be_opened_for_writing_in_any_way(supervisor: Supervisor) -> None:
    assert supervisor.run("python", OPENS).stdout == "-1\n"


@pytest.mark.every_wrapper
def test_where_it_is_on_the_host_is_not_there_for_a_run(supervisor: Supervisor) -> None:
    assert supervisor.run("python", LOOKS).stdout == "1 True True\n"


def test_under_root_that_keeps_its_user_it_is_as_it_was_too(cold_supervisor: Supervisor) -> None:
    result = cold_supervisor.run("shell", CHANGES, policy={"privilege": {"mode": "inherit"}})
    assert result.stdout == "script.sh\n0\n", result


@pytest.mark.every_wrapper
@pytest.mark.parametrize(
    ("kind", "script"),
    [
        ("auto", '#!/bin/bash\n[[ $1 ]] && printf \'%s|\' "$@" "${0##*/}"; cat'),
        (
            "python",
            "import sys\nprint(*sys.argv[1:], sys.argv[0].rpartition('/')[2], '', sep='|', end=sys.stdin.read())",
        ),
        ("program", "#!/usr/bin/perl\n$0 =~ s,.*/,,; print map({ qq($_|) } @ARGV, $0), <STDIN>"),
        pytest.param(
            "esm",
            "import fs from 'fs'; const [, me, ...rest] = process.argv;\n"
            "process.stdout.write([...rest, me.split('/').pop(), ''].join('|') + fs.readFileSync(0))",
            marks=needs_node,
        ),
    ],
)
def test_what_it_is_given_arrives(supervisor: Supervisor, kind: str, script: str) -> None:
    result = supervisor.run(kind, script, name="a b.mjs", args=["1 2", "it's", "ü"], stdin="in\n")
    assert result.stdout == "1 2|it's|ü|a b.mjs|in\n", result


NAMESPACES = ("user_namespaces", "network_namespaces", "fresh_proc")
SCRIPTS = {
    "auto": '#!/bin/bash\n[[ $1 ]] && echo "${0##*/}|$1|$(cat)"; { echo x >>"$0"; } 2>/dev/null || echo kept',
    "python": "import sys\nprint(__file__.rpartition('/')[2], sys.argv[1], sys.stdin.read(), sep='|')\n"
    "try:\n    open(__file__, 'a')\nexcept OSError:\n    print('kept')",
}


@pytest.mark.parametrize("kind", SCRIPTS)
@pytest.mark.parametrize("without", [NAMESPACES, (*NAMESPACES, "landlock")], ids=["landlock", "nothing"])
def test_without_namespaces_it_is_a_file_of_its_name_too(
    cold_supervisor: Supervisor, without: tuple[str, ...], kind: str
) -> None:
    result = cold_supervisor.run(
        kind,
        SCRIPTS[kind],
        policy={"onUnavailable": "degrade"},
        without=without,
        name="a b",
        args=["1 2"],
        stdin="in",
    )
    assert result.stdout == "a b|1 2|in\nkept\n", result


@needs_scopes
def test_under_landlock_it_cannot_be_changed_whosever_it_is(cold_supervisor: Supervisor) -> None:
    result = cold_supervisor.run("shell", CHANGES, policy={"onUnavailable": "degrade"}, without=NAMESPACES)
    assert result.stdout.splitlines()[0] == "script.sh", result


def test_nothing_of_a_script_is_left_on_the_host(supervisor: Supervisor) -> None:
    mark = "f3c1a9e2-left-behind"
    supervisor.run("shell", f": {mark}")
    left = [
        path
        for place in ("/dev/shm", "/tmp", "/var/tmp", "/run")
        for path in Path(place).glob("ringfence-scratch-of-*/*/*/*")
        if path.is_file() and mark in path.read_text(errors="replace")
    ]
    assert left == []
