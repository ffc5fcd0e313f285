"""What a request costs, with `/healthz` as its baseline: `python -m benchmarks.http [LOOP+PARSER …]`.

Measured on a whole host in a process of its own, a PostgreSQL with its usual durability, and one connection over
loopback that is kept open. In turns, so that a busy machine harms all alike: `GET /healthz`, `GET` and `PUT` of the
policy (with a token; the `PUT` with the revision that it changes), and how long after a `PUT` was sent a connected
satellite has read what it says. Of each the median, what it takes of the host's processor, and both as a multiple of
the baseline's. Once as a program that uses httpx sees it, and once as a client does that costs next to nothing itself.

Variants are measured in the same run, in turns as well: `asyncio+h11` is what `ringfence up` uses; `uvloop` and
`httptools` have to be installed. It prints a table, or JSON with `--json`.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import select
import shutil
import socket
import statistics
import sys
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
from ringfence.testing import make_reachable_directory

from benchmarks._relay_peers import PING, PONG, TEXT, masked
from benchmarks.relay import Process, database, start

POLICY = "/api/script-packages/sandbox-policy"
SATELLITES = "/api/satellite/satellites"
WEBSOCKET = "/api/ws/satellite"
VARIANTS = ("asyncio+h11",)
ROUNDS = 12
EACH = {"healthz": 60, "get": 60, "put": 25}
"""How many requests of a kind each round has: one after the other, so that the processor's time is theirs."""
BASELINE = "healthz"
SATELLITE = "satellite has it"


@dataclass(frozen=True, slots=True)
class Figures:
    """What requests of one kind took: medians in milliseconds, and as a multiple of the baseline's."""

    variant: str
    client: str
    request: str
    ms: float
    times_baseline: float
    cpu_ms: float | None
    cpu_times_baseline: float | None


@dataclass
class Taken:
    """What was measured of one variant and client, by kind of request."""

    wall: defaultdict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    cpu: defaultdict[str, list[float]] = field(default_factory=lambda: defaultdict(list))


class HttpxClient:
    """Asks as most programs do."""

    def __init__(self, url: str, token: str) -> None:
        self._http = httpx.Client(base_url=url, headers={"Authorization": f"Bearer {token}"})
        self._etag = "*"

    def prepare(self) -> None:
        """Have a connection, and know the revision that the first change is of."""
        self._etag = self._http.get(POLICY).headers["ETag"]

    def healthz(self) -> None:
        """Ask the baseline."""
        self._http.get("/healthz").raise_for_status()

    def get(self) -> None:
        """Read the policy."""
        self._http.get(POLICY).raise_for_status()

    def put(self, number: int) -> dict[str, float]:
        """Change the policy: after how long the answer was read."""
        began = time.perf_counter()
        answer = self._http.put(POLICY, json=change(number), headers={"If-Match": self._etag})
        took = time.perf_counter() - began
        self._etag = answer.raise_for_status().headers["ETag"]
        return {"put": took}


class SocketsClient:
    """One HTTP connection and one satellite's WebSocket, with no library."""

    def __init__(self, url: str, token: str) -> None:
        found = urlsplit(url)
        self._address = (str(found.hostname), int(found.port or 0))
        self._token = token
        self._http = self._connect()
        self._peer: socket.socket | None = None
        self._frames = bytearray()
        self._revision = 0

    def prepare(self) -> None:
        """Have a new connection, and know the revision that the first change is of.

        The host closes a connection that has asked for nothing for a while.
        """
        self._http.close()
        self._http = self._connect()
        self._revision = int(json.loads(self._ask("GET", POLICY))["revision"])
        while self._peer is not None and select.select([self._peer], [], [], 0)[0]:
            self._read_frames()

    def healthz(self) -> None:
        """Ask the baseline, without a token."""
        self._http.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
        self._answer()

    def get(self) -> None:
        """Read the policy."""
        self._ask("GET", POLICY)

    def put(self, number: int) -> dict[str, float]:
        """Change the policy: after how long the answer was read, and after how long the satellite had it."""
        assert self._peer is not None
        request = self._request("PUT", POLICY, change(number), If_Match=f'"{self._revision}"')
        poll = select.epoll()
        for one in (self._http, self._peer):
            poll.register(one.fileno(), select.EPOLLIN)
        answered = told = 0.0
        began = time.perf_counter()
        self._http.sendall(request)
        while not (answered and told):
            for descriptor, _ in poll.poll(10):
                now = time.perf_counter()
                if descriptor == self._http.fileno():
                    self._revision = int(json.loads(self._answer())["revision"])
                    answered = now - began
                elif any(frame["type"] == "sandbox_policy" for frame in self._read_frames()):
                    told = now - began
        poll.close()
        applied = {
            "type": "sandbox_policy_applied",
            "revision": self._revision,
            "enforced": {"network": True},
        }
        self._peer.sendall(masked(TEXT, json.dumps(applied).encode()))
        return {"put": answered, SATELLITE: told}

    def attach(self) -> None:
        """Register a satellite, and connect it."""
        made = json.loads(self._ask("POST", SATELLITES, {"name": "bench", "region": "bench"}))
        self._peer = self._connect()
        self._peer.sendall(
            f"GET {WEBSOCKET} HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\n\r\n".encode()
        )
        head = b""
        while b"\r\n\r\n" not in head:
            head += self._peer.recv(1)
        id, token = made["satellite"]["id"], made["token"]
        hello = {"type": "authenticate", "clientId": id, "token": token, "version": "1"}
        self._peer.sendall(masked(TEXT, json.dumps(hello).encode()))
        while not any(frame["type"] == "authenticated" for frame in self._read_frames()):
            pass

    def _ask(self, method: str, path: str, body: object = None) -> bytes:
        self._http.sendall(self._request(method, path, body))
        return self._answer()

    def _request(self, method: str, path: str, body: object = None, **more: str) -> bytes:
        content = b"" if body is None else json.dumps(body).encode()
        headers = {
            "Host": self._address[0],
            "Authorization": f"Bearer {self._token}",
            "Content-Type": "application/json",
            "Content-Length": str(len(content)),
            **more,
        }
        head = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in headers.items())
        return f"{method} {path} HTTP/1.1\r\n{head}\r\n".encode() + content

    def _connect(self) -> socket.socket:
        made = socket.create_connection(self._address)
        made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return made

    def _answer(self) -> bytes:
        """The body of the next answer. Raises if it is a refusal."""
        read = b""
        while b"\r\n\r\n" not in read:
            read += _receive(self._http)
        head, _, body = read.partition(b"\r\n\r\n")
        lines = head.lower().split(b"\r\n")
        length = next(int(line[15:]) for line in lines if line.startswith(b"content-length:"))
        while len(body) < length:
            body += _receive(self._http)
        if not lines[0].split()[1].startswith(b"2"):
            raise RuntimeError(f"refused: {head.decode()} {body.decode()}")
        return body

    def _read_frames(self) -> list[dict[str, Any]]:
        """The messages that the next read completes."""
        assert self._peer is not None
        self._frames += _receive(self._peer)
        messages = []
        while (found := _take_frame(self._frames)) is not None:
            opcode, payload = found
            if opcode == PING:
                self._peer.sendall(masked(PONG, payload))
            elif opcode == TEXT:
                messages.append(json.loads(payload))
        return messages


Client = HttpxClient | SocketsClient


def change(number: int) -> dict[str, Any]:
    """A policy that is not that of the change before."""
    return {"policy": {"resources": {"cpuSeconds": 10 + number % 1000}}}


def _receive(source: socket.socket) -> bytes:
    data = source.recv(65536)
    if not data:
        raise RuntimeError("the host has closed the connection")
    return data


def _take_frame(buffer: bytearray) -> tuple[int, bytes] | None:
    """The first frame of what a server sent, if it is whole."""
    if len(buffer) < 4:
        return None
    size, head = buffer[1], 2
    if size == 126:
        size, head = int.from_bytes(buffer[2:4], "big"), 4
    if len(buffer) < head + size:
        return None
    opcode, payload = buffer[0] & 0x0F, bytes(buffer[head : head + size])
    del buffer[: head + size]
    return opcode, payload


def processor_seconds(pid: int) -> float:
    """What a process has used of a processor so far, all its threads (proc(5), schedstat)."""
    spent = 0
    for thread in Path(f"/proc/{pid}/task").iterdir():
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            spent += int((thread / "schedstat").read_text().split()[0])
    return spent / 1e9


def measure_round(client: Client, pid: int, taken: Taken, number: int) -> None:
    """One round of every kind."""
    client.prepare()
    for kind, count in EACH.items():
        before = processor_seconds(pid)
        for each in range(count):
            if kind == "put":
                for what, took in client.put(number * count + each).items():
                    taken.wall[what].append(took)
                continue
            ask = client.healthz if kind == BASELINE else client.get
            began = time.perf_counter()
            ask()
            taken.wall[kind].append(time.perf_counter() - began)
        taken.cpu[kind].append((processor_seconds(pid) - before) / count)


def figures_of(variant: str, client: str, taken: Taken) -> list[Figures]:
    """The medians, and what they are of the baseline's."""
    wall = {kind: statistics.median(times) for kind, times in taken.wall.items()}
    cpu = {kind: statistics.median(times) for kind, times in taken.cpu.items()}
    return [
        Figures(
            variant,
            client,
            kind,
            round(took * 1000, 3),
            round(took / wall[BASELINE], 2),
            round(cpu[kind] * 1000, 3) if kind in cpu else None,
            round(cpu[kind] / cpu[BASELINE], 2) if kind in cpu else None,
        )
        for kind, took in wall.items()
    ]


@contextlib.asynccontextmanager
async def host(
    variant: str, database_url: str, directory: Path
) -> AsyncIterator[tuple[Process, dict[str, Client]]]:
    """A host of this variant, and its clients."""
    loop, _, parser = variant.partition("+")
    process = await start("_http_host", database_url, str(directory / variant), loop, parser)
    try:
        served = await process.hear()
        url, token = served["url"], served["token"]
        sockets = SocketsClient(url, token)
        sockets.attach()
        yield process, {"httpx": HttpxClient(url, token), "sockets": sockets}
    finally:
        await process.stop()


async def run(variants: Sequence[str], rounds: int) -> list[Figures]:
    """Measure every variant, in turns, each with a database of its own: none hears of another's changes."""
    directory = make_reachable_directory()
    taken: defaultdict[tuple[str, str], Taken] = defaultdict(Taken)
    try:
        async with contextlib.AsyncExitStack() as stack:
            hosts = {}
            for variant in variants:
                postgres = await stack.enter_async_context(database())
                hosts[variant] = await stack.enter_async_context(host(variant, postgres.url, directory))
            for number in range(rounds + 1):
                for variant, (process, clients) in hosts.items():
                    for name, client in clients.items():
                        # The first round warms up, and is not counted.
                        counted = taken[variant, name] if number else Taken()
                        await asyncio.to_thread(measure_round, client, process.pid, counted, number)
    finally:
        shutil.rmtree(directory, ignore_errors=True)
    return [one for (variant, client), its in taken.items() for one in figures_of(variant, client, its)]


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.http", description="Measure requests.")
    parser.add_argument("variants", nargs="*", default=list(VARIANTS), help="LOOP+PARSER, such as uvloop+h11")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--json", action="store_true", help="print the figures as JSON")
    wanted = parser.parse_args()
    figures = asyncio.run(run(wanted.variants, wanted.rounds))
    if wanted.json:
        json.dump([asdict(one) for one in figures], sys.stdout)
        return
    print(f"{'variant':<20}{'client':<9}{'request':<18}{'median':>12}{'× healthz':>11}", end="")
    print(f"{'processor':>13}{'× healthz':>11}")
    for one in figures:
        cpu = "" if one.cpu_ms is None else f"{one.cpu_ms:>10.3f} ms{one.cpu_times_baseline:>11.2f}"
        print(
            f"{one.variant:<20}{one.client:<9}{one.request:<18}{one.ms:>9.3f} ms{one.times_baseline:>11.2f}{cpu}"
        )


if __name__ == "__main__":
    main()
