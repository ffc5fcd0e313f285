"""A program that kills spawners and supervisors while runs start, and counts what they leave.

Its argument is JSON: how many `rounds` it takes, the `seed` of its chances, the `policy` of the runs (over the shipped
default), and the `longest` time in seconds that a round's runs are left alone. What it tells is JSON, too.

It adopts every orphan (PR_SET_CHILD_SUBREAPER), so that whatever is left of a round is a descendant of its own, whoever
the parent was, and no process of anybody else can be mistaken for one.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import json
import os
import random
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

from ringfence.sandbox import DEFAULT_POLICY, PolicySnapshot, overlay
from ringfence.sandbox.capabilities.model import Capabilities
from ringfence.sandbox.capabilities.probe import probe
from ringfence.scripts import RunnerSettings, ScriptKind, ScriptRequest
from ringfence.scripts.running.runner import Runner

PR_SET_CHILD_SUBREAPER = 36

AT_ONCE = 6
PATIENCE_S = 60.0


def children(pid: int) -> list[int]:
    """The children of a process, by whichever of its threads."""
    found: list[int] = []
    with contextlib.suppress(OSError):
        for thread in os.listdir(f"/proc/{pid}/task"):
            found += map(int, Path(f"/proc/{pid}/task/{thread}/children").read_text().split())
    return found


def descendants(pid: int) -> list[int]:
    """All living processes under `pid`."""
    found = []
    for child in children(pid):
        found += [child, *descendants(child)]
    return found


def reap() -> None:
    """Take leave of the dead that are ours."""
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG) != (0, 0):
            pass


def soon(condition: Callable[[], object]) -> bool:
    """Whether it holds within our patience."""
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.0005)
    return True


def words(pid: int) -> bytes:
    """A process's arguments; nothing of one that is gone."""
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    return b""


def described(pid: int) -> str:
    """A process for whoever looks into a failure."""
    return words(pid).replace(b"\0", b" ").decode(errors="replace")[:60]


async def supervise(capabilities: Capabilities, snapshot: PolicySnapshot) -> None:
    """Start scripts that would sleep for ever, all at once."""
    runner = Runner(RunnerSettings(max_concurrent_runs=AT_ONCE, warm_sandboxes=0))
    request = ScriptRequest(ScriptKind.SHELL, "sleep 86400", timeout_ms=86_400_000)
    await asyncio.gather(
        *(runner.run(snapshot, request, capabilities=capabilities) for _ in range(AT_ONCE)),
        return_exceptions=True,
    )


def kill(*pids: int) -> None:
    """As the kernel does when it is out of memory."""
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def take_turn(chance: random.Random, longest: float, supervisor: int, ours: list[int]) -> list[str]:
    """One round: kill some of a supervisor and its spawners while runs start. What is left then, in words."""
    assert soon(lambda: len(descendants(supervisor)) >= 3), "no run starts"
    time.sleep(chance.uniform(0, longest))
    spawners = [pid for pid in descendants(supervisor) if b"spawner_main" in words(pid)]
    victims = chance.choice(
        ([supervisor], spawners[:1], spawners[1:], [supervisor, *spawners], [*spawners, supervisor])
    )
    doomed = {pid for victim in victims for pid in descendants(victim)}
    kill(*victims)
    if supervisor not in victims:
        # It sees those runs fail that the killed ones had started. Others may go on until it is killed itself.
        soon(lambda: not doomed.intersection(descendants(supervisor)))
        kill(supervisor)

    def gone() -> bool:
        reap()
        return set(children(os.getpid())) <= set(ours)

    if soon(gone):
        return []
    left = [
        pid for child in children(os.getpid()) if child not in ours for pid in (child, *descendants(child))
    ]
    told = [described(pid) for pid in left]
    kill(*left)
    assert soon(gone), "it cannot even be killed"
    return told


def main() -> None:
    """Take the rounds, and tell what each has left."""
    order = json.loads(sys.argv[1])
    if ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        raise OSError("cannot adopt orphans")
    capabilities, chance = probe(), random.Random(order["seed"])
    snapshot = PolicySnapshot(overlay(DEFAULT_POLICY, order["policy"]))
    # What probing has started is not of any round.
    left, ours = [], children(os.getpid())
    for _ in range(order["rounds"]):
        supervisor = os.fork()
        if supervisor == 0:
            with contextlib.suppress(BaseException):
                asyncio.run(supervise(capabilities, snapshot))
            os._exit(0)
        left += take_turn(chance, order["longest"], supervisor, ours)
    print(json.dumps(left))


if __name__ == "__main__":
    main()
