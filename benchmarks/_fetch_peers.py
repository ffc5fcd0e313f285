"""Many satellites in one process that fetch the packages of their default set, each as fast as it can.

Arguments: PORT PATH CREDENTIALS_FILE. Told what to do by lines of JSON on standard input, it answers each with one
line: `{"connect": true}` once all are welcomed, `{"fetch": LOCK}` once all have every file. One of `CHECKED` satellites
looks whether what has come is what the lock says.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import os
import struct
import sys
import time
import uuid
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks._relay_peers import PING, PONG, TEXT, masked

CHECKED = 20
PIECE = 64 * 1024


class Peer(asyncio.Protocol):
    """One satellite. It has one request under way at a time, as agents have."""

    def __init__(self, hello: str, upgrade: bytes, *, checks: bool) -> None:
        self._hello, self._upgrade, self._checks = hello, upgrade, checks
        self._buffer = bytearray()
        self._is_upgraded = False
        self.welcomed = asyncio.get_running_loop().create_future()
        self.done: asyncio.Future[float] = asyncio.get_running_loop().create_future()
        self._lock = ""
        self._manifest = b""
        self._files: list[dict[str, Any]] = []
        self._offset = 0
        self._hash = hashlib.sha256()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Ask for a WebSocket."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        transport.write(self._upgrade)

    def connection_lost(self, exc: Exception | None) -> None:
        """Nobody closes it before the end."""
        for waiting in (self.welcomed, self.done):
            if not waiting.done():
                waiting.set_exception(exc or ConnectionError("the host has closed the connection"))

    def data_received(self, data: bytes) -> None:
        """Read the frames that are whole."""
        buffer = self._buffer
        buffer += data
        if not self._is_upgraded:
            end = buffer.find(b"\r\n\r\n")
            if end < 0:
                return
            del buffer[: end + 4]
            self._is_upgraded = True
            self._say(self._hello)
        while len(buffer) >= 2:
            size, head = buffer[1], 2
            if size == 126:
                if len(buffer) < 4:
                    return
                size, head = struct.unpack_from("!H", buffer, 2)[0], 4
            elif size == 127:
                if len(buffer) < 10:
                    return
                size, head = struct.unpack_from("!Q", buffer, 2)[0], 10
            if len(buffer) < head + size:
                return
            opcode, payload = buffer[0] & 0x0F, bytes(buffer[head : head + size])
            del buffer[: head + size]
            if opcode == PING:
                self._transport.write(masked(PONG, payload))
            elif opcode == TEXT:
                self._heard(payload)

    def fetch(self, lock: str) -> None:
        """Ask for the lock, and then for its files."""
        self._lock = lock
        self._ask()

    def _heard(self, payload: bytes) -> None:
        if payload.startswith(b'{"type":"script_package_piece"'):
            self._took(payload)
            return
        frame = json.loads(payload)
        if frame["type"] == "authenticated":
            self.welcomed.set_result(None)
        revision = frame.get("revision", frame.get("sandboxPolicyRevision"))
        if revision is not None:
            self._say({"type": "sandbox_policy_applied", "revision": revision, "enforced": {"network": True}})

    def _took(self, payload: bytes) -> None:
        if not self._files:
            answer = json.loads(payload)
            if "error" in answer:
                raise SystemExit(f"the host refuses a satellite: {answer['error']}")
            self._manifest += base64.b64decode(answer["content"])
            if len(self._manifest) == answer["total"]:
                packages = json.loads(self._manifest)["python"]
                self._files = [one["files"][0] for one in packages]
        else:
            size = self._files[0]["size"]
            if self._checks:
                self._hash.update(base64.b64decode(json.loads(payload)["content"]))
            self._offset += min(PIECE, size - self._offset)
            if self._offset == size:
                assert not self._checks or self._hash.hexdigest() == self._files[0]["sha256"]
                self._files.pop(0)
                self._offset, self._hash = 0, hashlib.sha256()
                if not self._files:
                    self._say(
                        {
                            "type": "script_package_sync_state",
                            "set": "default",
                            "lock": self._lock,
                            "state": "ready",
                        }
                    )
                    self.done.set_result(time.time())
                    return
        self._ask()

    def _ask(self) -> None:
        asked: dict[str, Any] = {"requestId": str(uuid.uuid4()), "lock": self._lock}
        if self._files:
            asked |= {
                "type": "request_script_package_blob",
                "sha256": self._files[0]["sha256"],
                "offset": self._offset,
            }
        else:
            asked |= {"type": "request_script_package_manifest", "offset": len(self._manifest)}
        self._say(asked)

    def _say(self, frame: dict[str, Any] | str) -> None:
        text = frame if isinstance(frame, str) else json.dumps(frame)
        self._transport.write(masked(TEXT, text.encode()))


def _itself(peer: Peer) -> Peer:
    return peer


async def main(port: int, path: str, credentials: str) -> None:
    """Do what is asked, until the input ends."""
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    key = base64.b64encode(os.urandom(16)).decode()
    upgrade = (
        f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        f"Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n\r\n"
    ).encode()
    peers: list[Peer] = []
    while line := await reader.readline():
        asked = json.loads(line)
        if "connect" in asked:
            for number, (id, token) in enumerate(json.loads(Path(credentials).read_text())):
                hello = {
                    "type": "authenticate",
                    "clientId": id,
                    "token": token,
                    "understands": ["task", "packages"],
                }
                peer = Peer(json.dumps(hello), upgrade, checks=number % CHECKED == 0)
                await loop.create_connection(partial(_itself, peer), "127.0.0.1", port)
                await peer.welcomed
                peers.append(peer)
            answer: dict[str, Any] = {"connected": len(peers)}
        else:
            for peer in peers:
                peer.fetch(asked["fetch"])
            answer = {"done": sorted(await asyncio.gather(*(peer.done for peer in peers)))}
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), sys.argv[2], sys.argv[3]))
