"""A supervisor in the tests' world: runs scripts by the public runner. Run as a script.

An order comes as a line of JSON on standard input, and its result goes as one to standard output. Its arguments are
sabotages: each takes one part of the protection away. Before them may come the process whose world it is to join.
"""

from __future__ import annotations

import asyncio
import atexit
import ctypes
import dataclasses
import errno
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from ringfence.sandbox import DEFAULT_POLICY, PolicySnapshot, overlay
from ringfence.sandbox.egress import LinkFailed, probe, relay
from ringfence.sandbox.egress import plan as egress_plan
from ringfence.sandbox.egress.link import program, ruleset, stack
from ringfence.sandbox.egress.relaying.orders import Orders
from ringfence.sandbox.faults import Unavailable, is_passing
from ringfence.sandbox.filters.landlock import Confinement, File
from ringfence.sandbox.launch.making import furnishing
from ringfence.sandbox.plan import decide
from ringfence.sandbox.plan.layers import network
from ringfence.sandbox.wrappers import trial
from ringfence.sandbox.wrappers.room import Room
from ringfence.scripts import ScriptKind, ScriptRequest, run_under


def without_refusals() -> None:
    """Drop every rule that refuses by destination, and let through what is not listed."""
    build = ruleset.build_ruleset

    def build_without(*arguments: Any, **options: Any) -> ruleset.Ruleset:
        built = build(*arguments, **options)
        kept = tuple(rule for rule in built.output if rule.verdict is ruleset.Verdict.ACCEPT)
        return ruleset.Ruleset((*kept, ruleset.Rule(ruleset.Verdict.ACCEPT)))

    vars(egress_plan)["build_ruleset"] = build_without
    vars(network)["orders_of"] = _orders_for_everything


def _orders_for_everything(*_: Any, **__: Any) -> Orders:
    return Orders(everything=True, every_port=True, nft=program.find("nft"))


def without_relay() -> None:
    """A host on which no relay can be had."""

    def relay(_: object) -> bool:
        raise Unavailable("no packet socket can be opened")

    vars(probe)["relay"] = relay


def without_syscall_filter() -> None:
    """Run without a seccomp filter, as if the kernel had none."""
    furnish = vars(furnishing)["furnish"]

    def furnish_without(*arguments: Any, **options: Any) -> Room:
        furnished: Room = furnish(*arguments, **options)
        return dataclasses.replace(furnished, filter=None)

    vars(furnishing)["furnish"] = furnish_without


def with_host_loopback() -> None:
    """Let the userspace stack take its gateway for the host's loopback, as it does unless it is told."""
    for name, option in (("slirp4netns", "--disable-host-loopback"), ("pasta", "--no-map-gw")):
        vars(stack)[name] = _without_option(vars(stack)[name], option)


def _without_option(arguments: Callable[..., list[str]], option: str) -> Callable[..., list[str]]:
    return lambda *given: [each for each in arguments(*given) if each != option]


def without_slirp4netns() -> None:
    """A host that has pasta only."""
    find = program.find

    def find_others(name: str) -> str:
        if name == "slirp4netns":
            raise LinkFailed(f"{name} is not installed")
        return find(name)

    vars(probe)["find"] = find_others


def with_a_busy_stack() -> None:
    """A host on which a quota is used up while it is tried whether a stack gives a link: twice, and in two ways."""
    attach, failures = (
        vars(probe)["attach"],
        [OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)), TimeoutError()],
    )

    async def attach_later(*arguments: Any) -> Any:
        if not failures:
            return await attach(*arguments)
        failure = failures.pop()
        raise LinkFailed(f"slirp4netns: {failure}", passing=is_passing(failure))

    vars(probe)["attach"] = attach_later


def with_a_busy_machine() -> None:
    """A host that starts no process in namespaces while it is looked at for the first time."""
    attempt, failures = vars(trial)["attempt"], iter([True] * 3)

    def attempt_later(*arguments: Any) -> Any:
        if next(failures, False):
            busy = BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))
            raise Unavailable(str(busy), passing=is_passing(busy))
        return attempt(*arguments)

    vars(trial)["attempt"] = attempt_later


def without_confinement() -> None:
    """A host without namespaces whose runs are not confined by Landlock either."""
    vars(decide)["confinement_of"] = lambda *_: None


def with_wrong_orders() -> None:
    """Orders for the confinement that the kernel refuses."""
    handled = vars(Confinement)["handled"].fget
    setattr(Confinement, "handled", property(lambda self: File(handled(self) | 1 << 40)))  # noqa: B010


def with_short_lived_names() -> None:
    """Close an address soon after it was answered for a name, instead of after minutes."""
    directory = Path(tempfile.mkdtemp(prefix="ringfence-world-"))
    atexit.register(shutil.rmtree, directory, ignore_errors=True)
    # Also for the supervisor that is not root.
    directory.chmod(0o755)
    shutil.copytree(relay.PROGRAM.parent / "relaying", directory / "relaying")
    shutil.copy(relay.PROGRAM, directory)
    changed = directory / "relaying/destinations.py"
    before = changed.read_text()
    assert "LEAST_OPEN_S = 300.0" in before
    changed.write_text(before.replace("LEAST_OPEN_S = 300.0", "LEAST_OPEN_S = 1.0"))
    names = directory / "relaying/names.py"
    names.write_text(names.read_text().replace("TTL_S = 5", "TTL_S = 1"))
    vars(relay)["PROGRAM"] = directory / relay.PROGRAM.name


SABOTAGES = {
    "short-lived": with_short_lived_names,
    "relay": without_relay,
    "refusals": without_refusals,
    "syscalls": without_syscall_filter,
    "host-loopback": with_host_loopback,
    "slirp4netns": without_slirp4netns,
    "busy-stack": with_a_busy_stack,
    "busy-machine": with_a_busy_machine,
    "confinement": without_confinement,
    "orders": with_wrong_orders,
}


async def answer(line: str) -> str:
    order = json.loads(line)
    request = order["request"]
    kind = ScriptKind(request.pop("kind"))
    snapshot = PolicySnapshot(overlay(DEFAULT_POLICY, order["policy"]))
    script = bytes.fromhex(request.pop("bytes")) if "bytes" in request else request.pop("script")
    result = await run_under(snapshot, ScriptRequest(kind, script, **request))
    return result.model_dump_json(by_alias=True)


JOINING = "--world="
"""What the number of that process follows."""

_CLONE_NEWNS, _CLONE_NEWNET = 0x00020000, 0x40000000  # setns(2)


def join(process: int) -> None:
    """Go where a process sees its network and its files."""
    pidfd = os.pidfd_open(process)
    try:
        if ctypes.CDLL(None, use_errno=True).setns(pidfd, _CLONE_NEWNS | _CLONE_NEWNET) != 0:
            raise OSError(ctypes.get_errno(), "the world cannot be joined")
    finally:
        os.close(pidfd)
    os.chdir("/")


async def main(sabotages: Sequence[str]) -> None:
    for sabotage in sabotages:
        SABOTAGES[sabotage]()
    loop = asyncio.get_running_loop()
    while line := await loop.run_in_executor(None, sys.stdin.readline):
        print(await answer(line), flush=True)


if __name__ == "__main__":
    arguments = sys.argv[1:]
    if arguments and arguments[0].startswith(JOINING):
        join(int(arguments.pop(0).removeprefix(JOINING)))
    asyncio.run(main(arguments))
