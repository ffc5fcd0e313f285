"""A network of the tests' own, with hosts that answer, and supervisors that live in it.

Everything is in one network namespace, and its "hosts" are addresses on its loopback interface: nothing is sent
anywhere else. A userspace stack sends from the namespace in which it runs, so the supervisor under test is
started in there; to it, this world is the host's network.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ringfence.sandbox.capabilities.model import SANDBOX_UID
from ringfence.sandbox.wrappers.choice import SETTING, chosen
from ringfence.sandbox.wrappers.find import NSJAIL_SETTING
from ringfence.scripts import RunResult

from tests import nsjail, warm_start, world_hosts, world_supervisor
from tests.escapes import reach
from tests.primitives import lacking
from tests.waiting import PATIENCE_SECONDS, next_line

ALLOWED4, OTHER4 = "10.9.0.1", "10.9.0.2"
ALLOWED6, OTHER6 = "2001:db8:9::1", "2001:db8:9::2"
METADATA = (
    "169.254.169.254",
    "169.254.170.2",
    "100.100.100.200",
    "192.0.0.192",
    "168.63.129.16",
    "fd00:ec2::254",
    "fd20:ce::254",
)
ADDRESSES = (ALLOWED4, OTHER4, ALLOWED6, OTHER6, *METADATA)
LAN = "lan0 10.7.0.100-10.7.0.101/24 via 10.7.0.1 2001:db8:7::100-2001:db8:7::101/64 via 2001:db8:7::1"
"""Addressing for macvlan links on the world's local network, on which the world itself is the router."""

# A tun device of the wanted mode, and a resolver on the host's loopback, as on many systems.
_MAKE = """
set -e
mount --make-rprivate /
mount -t tmpfs -o mode=755 tmpfs /dev/net
mknod -m "$TUN_MODE" /dev/net/tun c 10 200
printf 'nameserver 127.0.0.1\nnameserver 10.9.0.2\n' >"$1"
mount --bind "$1" /etc/resolv.conf
ip link set lo up
ip link add outside0 type veth peer name outside1
ip address add 10.8.0.1/24 dev outside0
ip address add 2001:db8:8::1/64 dev outside0 nodad
ip link set outside0 up
ip link set outside1 up
ip link add lan0 type veth peer name lan1
ip address add 10.7.0.1/24 dev lan1
ip address add 2001:db8:7::1/64 dev lan1 nodad
ip link set lan0 up
ip link set lan1 up
ip route add default via 10.8.0.2
ip route add default via 2001:db8:8::2
shift
for address; do ip address add "$address" dev lo nodad 2>/dev/null || ip address add "$address" dev lo; done
echo made
exec "$PYTHON" "$HOSTS"
"""


class World:
    """The namespaces of `pid`: its network, and a few files of its own. Its supervisors live as long as it does."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self._supervisors: dict[tuple[int, str, str], subprocess.Popen[str]] = {}

    def run(
        self,
        kind: str,
        script: str | bytes,
        *,
        policy: Mapping[str, Any],
        uid: int = 0,
        sabotage: str = "",
        setting: str = "",
        **request: Any,
    ) -> RunResult:
        """Run a script by a supervisor in this world, which is root or has another uid.

        `sabotage` takes parts of the protection away in that supervisor (see `world_supervisor`), to show that
        a refusal is their doing. `setting` is the supervisor's addressing for macvlan.
        """
        process = self.supervisor(uid, sabotage, setting)
        assert process.stdin is not None
        said = {"script": script} if isinstance(script, str) else {"bytes": script.hex()}
        order = {"policy": policy, "request": {"kind": kind, **said, **request}}
        process.stdin.write(json.dumps(order) + "\n")
        process.stdin.flush()
        answer = next_line(process.stdout, "the result of a run")
        assert answer, f"the supervisor ended: {process.wait()}"
        return RunResult.model_validate_json(answer)

    def supervisor(self, uid: int = 0, sabotage: str = "", setting: str = "") -> subprocess.Popen[str]:
        """The supervisor of that kind, started when it is first wanted."""
        key = (uid, sabotage, setting)
        if key not in self._supervisors:
            self._supervisors[key] = self._start(uid, sabotage, setting)
        return self._supervisors[key]

    def _start(self, uid: int, sabotage: str, setting: str) -> subprocess.Popen[str]:
        variables = {
            "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            "RINGFENCE_MACVLAN": setting,
            SETTING: chosen(),
        }
        if uid == 0:
            command = [
                *(sys.executable, "-P", "-m", world_supervisor.__name__),
                *(f"{world_supervisor.JOINING}{self.pid}", *sabotage.split()),
            ]
            variables |= warm_start.read_at_start()
            variables |= {"PYTHONPATH": _python_path(), NSJAIL_SETTING: nsjail.path() or ""}
        else:
            found, directory = _for_others()
            assert found is not None, "need_supervisor comes first"
            command = [
                *("nsenter", f"--target={self.pid}", "--net", "--mount", "--"),
                *("setpriv", f"--reuid={uid}", f"--regid={uid}", "--clear-groups", "--"),
                *(found, "-P", str(directory / Path(world_supervisor.__file__).name), *sabotage.split()),
            ]
            # There is a wrapper in the copy.
            variables |= {"PYTHONPATH": str(directory), "PYTHONDONTWRITEBYTECODE": "1", NSJAIL_SETTING: ""}
        return subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd="/", env=variables
        )

    def plain(self, script: str) -> str:
        """What a Python script says that runs in this world as it is, without any sandbox."""
        inside = ["nsenter", f"--target={self.pid}", "--net", "--", sys.executable, "-I", "-c", script]
        return subprocess.run(
            inside, capture_output=True, text=True, check=True, timeout=PATIENCE_SECONDS
        ).stdout

    def close(self) -> None:
        """End the supervisors."""
        for process in self._supervisors.values():
            process.communicate()


def _python_path() -> str:
    """Where our own modules and their dependencies are, without the standard library of this very Python."""
    standard = (sys.base_prefix, sys.base_exec_prefix)
    return os.pathsep.join(path for path in sys.path if path and not path.startswith(standard))


@functools.cache
def _for_others() -> tuple[str | None, Path]:
    """A Python that the unprivileged supervisor can run, if there is one, and a copy of all that it imports.

    A copy, since this checkout and its environment may be where nobody else can reach them.
    """
    directory = Path(tempfile.mkdtemp(prefix="ringfence-world-"))
    atexit.register(shutil.rmtree, directory, ignore_errors=True)
    reach.copy_package(directory)
    shutil.copy(world_supervisor.__file__, directory)
    (directory / Path(world_supervisor.__file__).name).chmod(0o644)
    return reach.reachable_python(directory), directory


def need_supervisor(uid: int) -> None:
    """End the test, as one that lacks something, if no supervisor of that uid can be had here."""
    if uid != 0 and _for_others()[0] is None:
        lacking(f"no Python that uid {uid} can run ringfence with")


SUPERVISORS = (0, SANDBOX_UID)


@contextlib.contextmanager
def world(directory: Path, *, tun_mode: str = "0666") -> Iterator[World]:
    """Make a world; it is gone with the context, with all that is in it. Most systems have the tun mode 0666."""
    addresses = [f"{address}/{128 if ':' in address else 32}" for address in ADDRESSES]
    with subprocess.Popen(
        [
            "unshare",
            "--net",
            "--mount",
            "--",
            "sh",
            "-c",
            _MAKE,
            "world",
            str(directory / "resolv.conf"),
            *addresses,
        ],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={
            **os.environ,
            "PYTHON": sys.executable,
            "HOSTS": world_hosts.__file__,
            "TUN_MODE": tun_mode,
        },
    ) as process:
        try:
            for expected in ("made\n", "listening\n"):
                assert next_line(process.stdout, f"that the world is {expected}") == expected
            made = World(process.pid)
            try:
                yield made
            finally:
                made.close()
        finally:
            process.communicate()
