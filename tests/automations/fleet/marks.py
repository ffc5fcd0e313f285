"""Where scripts say that they have begun: a server of the test's own, outside of all that is killed.

A script goes on only when it was answered. So the marks stand in the order in which the scripts began, and one that is
there stands for a script that ran, whatever anybody has recorded of it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

SCRIPT = """\
#!/bin/bash
set -e
exec 3<>"/dev/tcp/127.0.0.1/$1"
echo "$RINGFENCE_TRIGGER_N $2" >&3
read -r answer <&3
sleep 0.05
"""
"""It is given the port, and what it is called."""


@dataclass
class Marks:
    """What came: the number of the event, and the name of the step."""

    port: int = 0
    all: list[tuple[int, str]] = field(default_factory=list)


@asynccontextmanager
async def marks() -> AsyncIterator[Marks]:
    """Take marks on a free port."""
    found = Marks()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        line = (await reader.readline()).decode().split()
        if len(line) == 2:
            found.all.append((int(line[0]), line[1]))
            writer.write(b"noted\n")
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, backlog=1000)
    found.port = server.sockets[0].getsockname()[1]
    async with server:
        yield found
