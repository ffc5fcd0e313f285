"""Evidence that the sandbox holds on this host.

For each layer, something is tried inside a real one, and what happened is told.

A capability says that a primitive works; this says that what is built of it holds. Each probe goes through the public
runner like any script, under the policy that is asked about, with limits made small so that reaching them
takes no time.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import secrets
import socket
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import StrictBool

from ringfence.sandbox import Layer, PolicySnapshot, SandboxReport, overlay
from ringfence.sandbox.capabilities.found import Missing
from ringfence.sandbox.capabilities.model import SANDBOX_UID
from ringfence.sandbox.capabilities.probe import probe
from ringfence.sandbox.plan.decide import plan
from ringfence.sandbox.plan.model import Inputs, Interpreter, Refusal
from ringfence.sandbox.wire import WireModel
from ringfence.scripts.request import ScriptKind, ScriptRequest
from ringfence.scripts.result import RunResult, Stopped
from ringfence.scripts.running.hosts_view import with_host
from ringfence.scripts.running.runner import run_under
from ringfence.scripts.verifying import attempts

MiB = 1024 * 1024

SECRET = "ringfence-verification-secret"  # noqa: S105 - a word to look for, and no secret
"""What a host file holds, and the supervisor's environment would, that no script may see."""


# Each with ports of its own, so that they are loaded in several parts.
_EVERYTHING = ["::/0", *(f"10.{n >> 8}.{n & 255}.0/24:{1 + 3 * n}" for n in range(1000))]


class Evidence(WireModel):
    """One thing that was tried inside a sandbox: what, what happened, and whether the layer held against it."""

    layer: str
    tried: str
    happened: str
    holds: StrictBool


class Verification(WireModel):
    """All evidence, and the report of the sandboxes that it was gathered in."""

    evidence: tuple[Evidence, ...]
    sandbox: SandboxReport

    @property
    def holds(self) -> bool:
        """Whether every layer held against everything."""
        return all(each.holds for each in self.evidence)

    def to_wire(self) -> dict[str, Any]:
        """The verification as JSON, in wire names."""
        return {"holds": self.holds, **self.model_dump(mode="json", by_alias=True)}


@dataclass(frozen=True, slots=True)
class _Bait:
    """What the host puts out for a script to get at."""

    file: str
    port: int
    held: str


@dataclass(frozen=True, slots=True)
class _Probe:
    """Something to try: a script that says what it achieved, and how its result is judged."""

    layer: Layer
    tried: str
    script: str
    judge: Callable[[RunResult], bool]
    kind: ScriptKind = ScriptKind.SHELL
    policy: Mapping[str, Any] = field(default_factory=dict)
    timeout_ms: int = 10_000
    secrets: Mapping[str, str] | None = None
    needs_link: bool = False


def _looks_for_us() -> str:
    """A command of the shell that says so if it sees this very process.

    A process of the run's own may have our number: in a container, ours is 1. None began when we did.
    """
    pid = os.getpid()
    began = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    return f"sed 's/.*) //' /proc/{pid}/stat 2>/dev/null | cut -d ' ' -f 20 | grep -x {began}"


def _silent(result: RunResult) -> bool:
    return result.exit_code == 0 and result.stdout == ""


def _says(*words: str) -> Callable[[RunResult], bool]:
    return lambda result: result.stdout.split() == list(words)


def _stopped(why: Stopped) -> Callable[[RunResult], bool]:
    return lambda result: result.stopped is why


def _probes(bait: _Bait, uid: int) -> tuple[_Probe, ...]:
    python = ScriptKind.PYTHON
    return (
        _Probe(
            Layer.FILESYSTEM,
            "read a file of the host that everybody there may read, and the host's secrets",
            f"cat {bait.file} /etc/shadow /root/.ssh/* /proc/1/root{bait.file} 2>/dev/null; true",
            _silent,
        ),
        _Probe(
            Layer.FILESYSTEM,
            "write outside of scratch and /tmp",
            "for d in / /etc /usr /usr/bin /dev /proc/sys/kernel; do touch $d/x 2>/dev/null && echo $d; done; true",
            _silent,
        ),
        _Probe(
            Layer.FILESYSTEM,
            "see the host's processes and their environments",
            f"cat /proc/[0-9]*/environ 2>/dev/null | tr '\\0' '\\n' | grep -c {SECRET}; {_looks_for_us()}; true",
            _says("0"),
        ),
        _Probe(
            Layer.NETWORK,
            "connect to the host's loopback, to a metadata service and to an address elsewhere",
            attempts.CONNECT.format(port=bait.port),
            _silent,
            python,
        ),
        _Probe(
            Layer.NETWORK,
            "reach a metadata service in a form inside IPv6, with 1,001 entries that allow all that is not blocked",
            attempts.HIDDEN,
            _silent,
            python,
            {"network": {"mode": "allowlist", "allow": _EVERYTHING, "denyLinkLocalAndMetadata": True}},
            needs_link=True,
        ),
        _Probe(
            Layer.ENVIRONMENT,
            "print a secret with escapes, percent-encoded, with entities and in base64",
            attempts.SPELLINGS,
            _says(*['"***"'] * 2, *["***"] * 4),
            python,
            secrets={"TOKEN": f"it's a {SECRET}/1"},
        ),
        _Probe(
            Layer.PRIVILEGE,
            f"be somebody else than uid {uid}, seen from inside",
            "id -u",
            _says(str(uid)),
        ),
        _Probe(
            Layer.PRIVILEGE,
            "have a capability, or a way to gain one",
            "awk '/^(CapPrm|CapEff|CapBnd|CapAmb):/ {print $2} /^NoNewPrivs:/ {print $2}' /proc/self/status",
            _says(*["0" * 16] * 4, "1"),
        ),
        _Probe(
            Layer.SYSCALLS,
            "call bpf, perf_event_open, io_uring_setup, keyctl and ptrace, and make a user namespace",
            attempts.CALLS,
            _silent,
            python,
        ),
        _Probe(
            Layer.SYSCALLS,
            "schedule, limit or slow another process, its namespace's init among them, and have core dumps",
            attempts.CLAIMS,
            _silent,
            python,
        ),
        _Probe(
            Layer.SYSCALLS,
            "fill the kernel's memory by larger sockets and pipes, Landlock rulesets and access control lists",
            attempts.KERNEL_MEMORY,
            _silent,
            python,
        ),
        _Probe(
            Layer.FILESYSTEM,
            "watch who uses the system's programs, and take a lock on one that the host holds",
            attempts.WATCHES.format(held=bait.held),
            _silent,
            python,
        ),
        _Probe(
            Layer.FILESYSTEM,
            "open a file of /proc or /sys for writing",
            attempts.KERNEL_FILES,
            _silent,
            python,
        ),
        _Probe(
            Layer.RESOURCES,
            "have more than 10 processes",
            attempts.FORKS,
            _says("10"),
            python,
            {"resources": {"maxProcesses": 10}},
        ),
        _Probe(
            Layer.RESOURCES,
            "use 96 MiB of memory, split over 8 processes, with 48 MiB allowed",
            attempts.HOARD,
            _stopped(Stopped.MEMORY),
            python,
            {"resources": {"memoryBytes": 48 * MiB}},
        ),
        _Probe(
            Layer.RESOURCES,
            "hide 96 MiB behind a false name and threads that outlive the first, with 48 MiB allowed",
            attempts.ECLIPSED,
            _stopped(Stopped.MEMORY),
            python,
            {"resources": {"memoryBytes": 48 * MiB}},
        ),
        _Probe(
            Layer.RESOURCES,
            "fill 80 MiB of sockets that nobody reads, with 48 MiB allowed",
            attempts.QUEUES,
            _stopped(Stopped.MEMORY),
            python,
            {"resources": {"memoryBytes": 48 * MiB}},
        ),
        _Probe(
            Layer.RESOURCES,
            "write 2 MiB with 1 MiB of scratch",
            "head -c 2097152 /dev/zero > file 2>/dev/null; [ $(wc -c < file) -gt 1048576 ] && echo wrote it; true",
            _silent,
            policy={"resources": {"maxScratchBytes": MiB}},
        ),
        _Probe(
            Layer.RESOURCES,
            "print without end with 64 KiB allowed",
            "yes",
            _stopped(Stopped.OUTPUT),
            policy={"resources": {"maxOutputBytes": 65536}},
        ),
        _Probe(
            Layer.RESOURCES,
            "outlast the clock, deaf to every signal, with a daemon beside",
            "trap '' TERM INT HUP; (setsid sleep 1000 &); while :; do sleep 1000; done",
            _stopped(Stopped.TIMEOUT),
            timeout_ms=100,
        ),
    )


async def verify(snapshot: PolicySnapshot) -> Verification:
    """Try to get out of sandboxes of this policy, and tell how that went. Takes a second or two.

    A host that refuses such sandboxes has no evidence to show but the refusal.
    """
    first = await run_under(snapshot, ScriptRequest(ScriptKind.SHELL, ":"))
    if first.refused:
        return Verification(
            evidence=tuple(
                Evidence(layer=lack.layer, tried="make a sandbox", happened=lack.reason, holds=False)
                for lack in first.sandbox.downgrades
            ),
            sandbox=first.sandbox,
        )
    with _bait() as bait:
        probes = _probes(bait, _expected_uid(snapshot))
        evidence = [await _gather(each, snapshot) for each in probes if _can_run(each)]
    evidence.append(await _seen_from_outside(snapshot))
    return Verification(evidence=tuple(evidence), sandbox=first.sandbox)


def _can_run(each: _Probe) -> bool:
    host = probe()
    if each.kind is ScriptKind.PYTHON and isinstance(host.python, Missing):
        return False
    # What is listed there is networks on every port.
    links = (host.relay, host.slirp4netns, host.pasta, host.macvlan)
    return not each.needs_link or (host.nft.available and any(link.available for link in links))


def _expected_uid(snapshot: PolicySnapshot) -> int:
    """The uid that a script must see itself have: never root's, where the policy asks for a drop."""
    own, privilege = os.geteuid(), snapshot.policy.privilege
    if own == 0:
        return privilege.uid or SANDBOX_UID
    return own if _shares(snapshot) else SANDBOX_UID


def _shares(snapshot: PolicySnapshot) -> bool:
    """Whether all runs under the policy have one uid."""
    planned = plan(probe(), snapshot, with_host(Inputs(Interpreter.SHELL), snapshot.policy))
    return isinstance(planned, Refusal) or planned.uids is None


async def _seen_from_outside(snapshot: PolicySnapshot) -> Evidence:
    """Whose process a script is for the host: what a user namespace shows inside is no evidence of that."""
    uids = probe().uid_range
    mark = f"2.{secrets.randbelow(10**12):012}"
    first, second = await asyncio.gather(*(_owner(snapshot, f"{mark}{number}") for number in range(2)))
    if uids is None or _shares(snapshot):
        uid = _expected_uid(snapshot)
        tried, holds = f"be somebody else than uid {uid}, seen from outside", {first, second} == {uid}
    else:
        tried = f"be somebody else than two uids of {uids}, in two runs, seen from outside"
        holds = first in uids and second in uids and first != second
    return Evidence(
        layer=Layer.PRIVILEGE,
        tried=tried,
        happened=f"for the host, their processes are uid {first}'s and uid {second}'s",
        holds=holds,
    )


async def _owner(snapshot: PolicySnapshot, mark: str) -> int | None:
    """Who owns a process of a run, which is found by its mark; None if the run ends before it is."""
    script = f"exec sleep {mark}"
    running = asyncio.create_task(run_under(snapshot, ScriptRequest(ScriptKind.SHELL, script)))
    try:
        owner = None
        while owner is None and not running.done():
            await asyncio.sleep(0.01)
            owner = _owner_of(mark)
    finally:
        running.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await running
    return owner


def _owner_of(mark: str) -> int | None:
    for pid in filter(str.isdigit, os.listdir("/proc")):
        # Processes come and go while one looks.
        with contextlib.suppress(OSError):
            if Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")[:2] == [b"sleep", mark.encode()]:
                return os.stat(f"/proc/{pid}").st_uid
    return None


@contextlib.contextmanager
def _bait() -> Iterator[_Bait]:
    # Not in the host's own /tmp, which every sandbox covers with its own.
    place = next((path for path in ("/var/tmp", "/dev/shm") if os.access(path, os.W_OK)), None)  # noqa: S108
    with (
        tempfile.NamedTemporaryFile(prefix="ringfence-verify-", dir=place) as file,
        socket.socket() as listener,
        open("/usr/bin/env", "rb") as program,
    ):
        file.write(SECRET.encode())
        file.flush()
        os.chmod(file.name, 0o644)
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        fcntl.flock(program, fcntl.LOCK_SH)
        yield _Bait(file.name, listener.getsockname()[1], program.name)


async def _gather(each: _Probe, snapshot: PolicySnapshot) -> Evidence:
    policy = overlay(snapshot.policy, dict(each.policy))
    under = PolicySnapshot(
        policy, snapshot.revision, snapshot.source, snapshot.reason, snapshot.not_understood
    )
    request = ScriptRequest(
        each.kind, each.script, timeout_ms=each.timeout_ms, secret_env=dict(each.secrets or {})
    )
    result = await run_under(under, request)
    return Evidence(layer=each.layer, tried=each.tried, happened=_happened(result), holds=each.judge(result))


def _happened(result: RunResult) -> str:
    """What a result shows, in a few words."""
    if result.stopped is not None:
        reason = "; ".join(lack.reason for lack in result.sandbox.downgrades)
        return f"the run was stopped: {result.stopped.value}{f' ({reason})' if reason else ''}"
    said = " ".join(result.stdout.split())[:200]
    if not said:
        return "nothing was achieved"
    return (
        f"it said: {said}"
        if result.exit_code == 0
        else f"it ended with status {result.exit_code} and said: {said}"
    )
