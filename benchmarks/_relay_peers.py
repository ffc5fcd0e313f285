"""Many satellites in one process, as cheap as can be: raw sockets and one epoll loop, no client library.

Told what to do by lines of JSON on standard input, it answers each with one line: `{"connect": true}` once
all peers are welcomed, `{"await": REVISION}` once all have read that revision. All times are of
this machine's clock, by which the database stamps its commits too. Arguments: PORT PATH CREDENTIALS_FILE.
"""

from __future__ import annotations

import base64
import contextlib
import gc
import json
import os
import select
import socket
import struct
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

IN_FLIGHT = 256
"""How many peers are on their way in at once; a fleet with backoff and jitter does not come as one either."""
QUIET_SECONDS = 0.005
READ_BYTES = 4096
"""Room for a policy and its frame. A larger buffer costs more to make than a frame to read."""
TEXT, PING, PONG, CLOSE = 0x1, 0x9, 0xA, 0x8


def masked(opcode: int, payload: bytes) -> bytes:
    """A client's frame. The mask is zero: it is there for proxies, and costs nothing to make."""
    size = len(payload)
    head = bytes([0x80 | opcode]) + (
        bytes([0x80 | size]) if size < 126 else bytes([0x80 | 126]) + struct.pack("!H", size)
    )
    return head + b"\0\0\0\0" + payload


@dataclass(slots=True)
class Peer:
    """One satellite: its credentials, its socket, and what it has been told."""

    hello: bytes
    socket: socket.socket | None = None
    upgraded: bool = False
    buffer: bytearray = field(default_factory=bytearray)
    welcomed_at: float | None = None
    revision: int = -1
    told_at: float = 0.0


class Fleet:
    """All peers, and the loop that serves them."""

    def __init__(self, port: int, path: str, credentials: list[list[str]]) -> None:
        self.address = ("127.0.0.1", port)
        key = base64.b64encode(os.urandom(16)).decode()
        self.upgrade = (
            f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            f"Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n\r\n"
        ).encode()
        self.peers = [
            Peer(
                masked(
                    TEXT,
                    json.dumps(
                        {"type": "authenticate", "clientId": id, "token": token, "version": "1"}
                    ).encode(),
                )
            )
            for id, token in credentials
        ]
        self.by_fd: dict[int, Peer] = {}
        self.epoll = select.epoll()
        self.epoll.register(sys.stdin.fileno(), select.EPOLLIN)
        self.waiting = list(self.peers)
        self.on_their_way = 0
        self.told = 0
        self.awaited = 0
        self.welcomed = 0
        self.arrived: list[tuple[int, float, bytes]] = []

    def serve(self) -> None:
        """Do what is asked, until the input ends."""
        stdin = open(sys.stdin.fileno(), "rb", buffering=0, closefd=False)  # noqa: SIM115
        asked: dict[str, Any] | None = None
        connecting = False
        pending = b""
        while True:
            # What has come is only noted while more may be coming, and worked on after that: so that the times
            # are those of arrival, and not of this process's own work. Nor does it sleep then, so that no sender
            # pays for waking it, as none would that is on another machine.
            ready = self.epoll.poll(0.0 if self.arrived else 0.05, 1 + len(self.peers))
            if not ready and self._quiet():
                arrived, self.arrived = self.arrived, []
                for fd, now, data in arrived:
                    self._take(fd, now, data)
            for fd, _ in ready:
                if fd == sys.stdin.fileno():
                    data = stdin.read(65536)
                    if not data:
                        return
                    pending += data
                else:
                    self._readable(fd)
            if asked is None and b"\n" in pending:
                line, _, pending = pending.partition(b"\n")
                asked = json.loads(line)
                connecting = connecting or "connect" in asked
                if "await" in asked:
                    self.awaited = asked["await"]
                    self.told = sum(peer.revision >= self.awaited for peer in self.peers)
            if connecting:
                self._connect_more()
            if asked is not None and "connect" in asked and self.welcomed == len(self.peers):
                asked = self._answer({"last": max(peer.welcomed_at or 0.0 for peer in self.peers)})
            if asked is not None and "await" in asked and self.told == len(self.peers):
                times = sorted(peer.told_at for peer in self.peers)
                asked = self._answer({"first": times[0], "median": times[len(times) // 2], "last": times[-1]})

    def _quiet(self) -> bool:
        """Whether what has arrived may be worked on: at once for those on their way in, who wait for answers."""
        if self.waiting or self.on_their_way:
            return True
        return bool(self.arrived) and time.time() - self.arrived[-1][1] > QUIET_SECONDS

    @staticmethod
    def _answer(answer: dict[str, float]) -> None:
        print(json.dumps(answer), flush=True)

    def _connect_more(self) -> None:
        while self.waiting and self.on_their_way < IN_FLIGHT:
            peer = self.waiting.pop()
            connection = socket.socket()
            try:
                connection.connect(self.address)
                connection.setblocking(False)
                connection.send(self.upgrade)
            except OSError:
                connection.close()
                self.waiting.append(peer)
                return
            peer.socket, peer.upgraded, peer.welcomed_at = connection, False, None
            peer.buffer.clear()
            self.by_fd[connection.fileno()] = peer
            self.epoll.register(connection.fileno(), select.EPOLLIN)
            self.on_their_way += 1

    def _readable(self, fd: int) -> None:
        try:
            data = os.read(fd, READ_BYTES)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self.epoll.unregister(fd)
        self.arrived.append((fd, time.time(), data))

    def _take(self, fd: int, now: float, data: bytes) -> None:
        peer = self.by_fd[fd]
        if not data:
            self._lost(fd, peer)
            return
        peer.buffer += data
        if not peer.upgraded:
            end = peer.buffer.find(b"\r\n\r\n")
            if end < 0:
                return
            del peer.buffer[: end + 4]
            peer.upgraded = True
            self._send(peer, peer.hello)
        self._read_frames(peer, now)

    def _read_frames(self, peer: Peer, now: float) -> None:
        buffer = peer.buffer
        while len(buffer) >= 2:
            size, head = buffer[1], 2
            if size == 126:
                if len(buffer) < 4:
                    return
                size, head = struct.unpack_from("!H", buffer, 2)[0], 4
            if len(buffer) < head + size:
                return
            opcode, payload = buffer[0] & 0x0F, bytes(buffer[head : head + size])
            del buffer[: head + size]
            self._frame(peer, now, opcode, payload)

    def _frame(self, peer: Peer, now: float, opcode: int, payload: bytes) -> None:
        if opcode == PING:
            self._send(peer, masked(PONG, payload))
        if opcode != TEXT:
            return
        frame = json.loads(payload)
        revision = frame.get("revision", frame.get("sandboxPolicyRevision", -1))
        if frame["type"] == "authenticated" and peer.welcomed_at is None:
            peer.welcomed_at = now
            self.welcomed += 1
            self.on_their_way -= 1
        if revision > peer.revision:
            self.told += peer.revision < self.awaited <= revision
            peer.revision, peer.told_at = revision, now
            answer = {"type": "sandbox_policy_applied", "revision": revision, "enforced": {"network": True}}
            self._send(peer, masked(TEXT, json.dumps(answer).encode()))

    @staticmethod
    def _send(peer: Peer, frame: bytes) -> None:
        assert peer.socket is not None
        with contextlib.suppress(OSError):  # A peer that is lost is found out by reading.
            peer.socket.send(frame)

    def _lost(self, fd: int, peer: Peer) -> None:
        assert peer.socket is not None
        del self.by_fd[fd]
        peer.socket.close()
        if peer.welcomed_at is None:
            self.on_their_way -= 1
        else:
            self.welcomed -= 1
        peer.socket, peer.welcomed_at = None, None
        self.waiting.append(peer)


def main(port: str, path: str, credentials: str) -> None:
    # A collection would stop the clock of everything that arrives in the meantime.
    gc.disable()
    Fleet(int(port), path, json.loads(Path(credentials).read_text())).serve()


if __name__ == "__main__":
    main(*sys.argv[1:])
