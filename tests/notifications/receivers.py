"""Servers of the tests' own that receive what is sent for real: mail by SMTP, and posts by HTTP, on loopback."""

from __future__ import annotations

import asyncio
import email
import email.policy
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from email.message import EmailMessage
from typing import Any

from ringfence.testing import PATIENCE_SECONDS


@dataclass
class Inbox:
    """What has come to an address. `answers`: whether it is taken; while it is not `open`, nobody gets an answer."""

    address: str = ""
    messages: list[dict[str, Any]] = field(default_factory=list)
    answers: bool = True
    open: asyncio.Event = field(default_factory=asyncio.Event)
    asked: int = 0
    _came: asyncio.Condition = field(default_factory=asyncio.Condition)

    def __post_init__(self) -> None:
        self.open.set()

    @property
    def titles(self) -> list[str]:
        return [message["title"] for message in self.messages]

    async def take(self, message: dict[str, Any]) -> None:
        async with self._came:
            self.messages.append(message)
            self._came.notify_all()

    async def wait_for(self, count: int) -> list[dict[str, Any]]:
        """The messages, once there are so many."""
        async with asyncio.timeout(PATIENCE_SECONDS), self._came:
            await self._came.wait_for(lambda: len(self.messages) >= count)
        return self.messages


@asynccontextmanager
async def smtp_inbox(user: str = "ops") -> AsyncIterator[Inbox]:
    """A mail server that takes mail for anybody (RFC 5321), after a password if it is offered one (RFC 4954)."""
    inbox = Inbox()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        async def say(line: str) -> None:
            writer.write(f"{line}\r\n".encode())
            await writer.drain()

        inbox.asked += 1
        await inbox.open.wait()
        await say("220 here")
        while line := (await reader.readline()).decode().strip():
            match line.split(" ")[0].upper():
                case "EHLO" | "HELO":
                    await say("250-here")
                    await say("250 AUTH PLAIN LOGIN")
                case "AUTH":
                    await say("235 welcome" if inbox.answers else "535 wrong password")
                case "DATA":
                    await say("354 go on")
                    data = await reader.readuntil(b"\r\n.\r\n")
                    mail = email.message_from_bytes(data[:-3], policy=email.policy.default)
                    await inbox.take(_as_message(mail))
                    await say("250 taken")
                case "QUIT":
                    await say("221 bye")
                    break
                case _:
                    await say("250 fine")
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    inbox.address = (
        f"mailto://{user}:pass-w0rd-of-mail@127.0.0.1:{port}?from=ringfence@example.org&to=ops@example.org"
    )
    async with server:
        yield inbox


def _as_message(mail: EmailMessage) -> dict[str, Any]:
    body = mail.get_body(("plain",))
    return {
        "title": str(mail["Subject"]),
        "message": "" if body is None else body.get_content().strip(),
        "id": str(mail["Idempotency-Key"]),
        "to": str(mail["To"]),
    }


@asynccontextmanager
async def http_inbox(token: str = "t0ken-in-the-path") -> AsyncIterator[Inbox]:
    """A web server that takes posts of JSON below a path that is a secret."""
    inbox = Inbox()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        headers = {
            name.lower(): value.strip()
            for name, _, value in (line.partition(":") for line in head[1:] if line)
        }
        body = await reader.readexactly(int(headers.get("content-length", 0)))
        inbox.asked += 1
        await inbox.open.wait()
        if inbox.answers and token in head[0]:
            await inbox.take({**json.loads(body), "id": headers.get("idempotency-key")})
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        else:
            writer.write(b"HTTP/1.1 503 No\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    inbox.address = f"json://127.0.0.1:{port}/{token}"
    async with server:
        yield inbox
