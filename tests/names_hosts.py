"""The hosts of the tests' network of names: name servers, web servers, echoes. Run as a script in that network.

Its arguments are a directory, and the addresses on which it answers by UDP. In the directory, `zone.json` is what the
name servers know, read anew when it has changed; in `queries` they note who asked what. `server.pem` is the certificate
of all web servers, and `www` what they serve. It ends when its standard input does.

A name of the zone has records by type; `ttl`; `rcode` instead of an answer; `slow`, the seconds that an answer takes;
`silent` for none at all; `truncated` for what has to be asked by TCP; `nowhere` for an answer that cannot be read; and
`then`, what it is from the second question of the same type on. `*.` begins a wildcard.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import json
import socket
import ssl
import struct
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast

import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdatatype
import dns.rrset

DIRECTORY = Path(sys.argv[1])
ADDRESSES = [each.partition("/")[0] for each in sys.argv[2:] if not each.startswith("fe80:")]
RESOLVERS = ("127.0.0.53", "10.9.0.53", "10.9.0.2", "2001:db8:9::53")
WEB, SECURE, UDP, ECHO = (80, 81, 8080), (443, 8443), (123, 161, 514, 9999), 7
FLOOD, CUT = 19, 13

FLOODED = [0]
ASKED: Counter[tuple[str, str]] = Counter()


@functools.lru_cache(maxsize=1)
def zone_of(changed: int) -> dict[str, Any]:
    """What the name servers know since that change."""
    del changed
    zone: dict[str, Any] = json.loads((DIRECTORY / "zone.json").read_text())
    return zone


def known(name: str, kind: str) -> dict[str, Any] | None:
    """What the zone has of a name, at this question of its kind."""
    zone = zone_of((DIRECTORY / "zone.json").stat().st_mtime_ns)
    parents = [f"*.{name.split('.', n)[n]}" for n in range(1, name.count(".") + 1)]
    entry: dict[str, Any] | None = next((zone[each] for each in (name, *parents) if each in zone), None)
    ASKED[name, kind] += 1
    for _ in range(ASKED[name, kind] - 1):
        if entry is None or "then" not in entry:
            break
        entry = entry["then"]
    return entry


def records(name: str, kind: str) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """The records that answer a question, behind the aliases that lead to them."""
    for _ in range(20):
        entry = known(name, kind)
        if entry is None:
            return
        if "CNAME" in entry:
            yield name, "CNAME", {**entry, "CNAME": [entry["CNAME"]]}
            name = entry["CNAME"].removesuffix(".")
            continue
        yield name, kind, entry
        return


async def resolve(data: bytes, how: str) -> bytes | None:
    """The answer to a question that came by `udp`, `tcp` or `https`."""
    query = dns.message.from_wire(data)
    [asked] = query.question
    name, kind = asked.name.to_text(omit_final_dot=True).lower(), dns.rdatatype.to_text(asked.rdtype)
    with (DIRECTORY / "queries").open("a") as noted:
        noted.write(f"{how} {name} {kind}\n")
    answer = dns.message.make_response(query, recursion_available=True)
    exists = False
    for owner, rdtype, entry in records(name, kind):
        exists = True
        if entry.get("silent"):
            return None
        await asyncio.sleep(entry.get("slow", 0))
        if entry.get("nowhere"):
            return data[:2] + b"\x81\x80" + data[4:6] + b"\xff\xff" + bytes(40)
        if "rcode" in entry:
            answer.set_rcode(dns.rcode.from_text(entry["rcode"]))
        if entry.get("truncated") and how == "udp":
            answer.flags |= dns.flags.TC
            break
        if entry.get(rdtype):
            ttl = entry.get("ttl", 60)
            answer.answer.append(dns.rrset.from_text(f"{owner}.", ttl, "IN", rdtype, *entry[rdtype]))
    if not exists:
        answer.set_rcode(dns.rcode.NXDOMAIN)
    return answer.to_wire()


class Datagrams(asyncio.DatagramProtocol):
    """A name server, or an echo that says where a datagram arrived."""

    def __init__(self, address: str, port: int) -> None:
        self._address, self._port = address, port
        self._tasks: set[asyncio.Task[None]] = set()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.DatagramTransport, transport)

    def datagram_received(self, data: bytes, addr: tuple[str | object, int]) -> None:
        if self._port == 53:
            task = asyncio.ensure_future(self._resolve(data, addr))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        else:
            self._transport.sendto(f"udp {self._address} {self._port} ".encode() + data, addr)

    async def _resolve(self, data: bytes, addr: tuple[str | object, int]) -> None:
        answer = await resolve(data, "udp")
        if answer is not None:
            self._transport.sendto(answer, addr)


async def resolve_stream(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while True:
            length = int.from_bytes(await reader.readexactly(2))
            answer = await resolve(await reader.readexactly(length), "tcp")
            if answer is not None:
                writer.write(len(answer).to_bytes(2) + answer)
    except (asyncio.IncompleteReadError, ConnectionError):
        writer.close()


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(65536):
        writer.write(data)
        await writer.drain()
    writer.close()


async def flood(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Send for as long as somebody takes it, and note how much that was."""
    del reader
    with contextlib.suppress(ConnectionError):
        while True:
            writer.write(bytes(65536))
            await writer.drain()
            FLOODED[0] += 65536


async def cut(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Say something, and after the answer cut the connection."""
    writer.write(b"cut")
    await reader.read(1)
    connection = writer.get_extra_info("socket")
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


async def web(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """HTTP, as far as the tests need it: says where it was reached and by which name, or serves a file."""
    address, port = writer.get_extra_info("sockname")[:2]
    try:
        while True:
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
            method, target, _ = head.split("\r\n", 1)[0].split(" ")
            headers = {
                key.lower(): value.strip()
                for key, _, value in (line.partition(":") for line in head.split("\r\n")[1:])
            }
            body = await reader.readexactly(int(headers.get("content-length", 0)))
            status, content = "200 OK", f"reached {address} {port} {headers.get('host', '')}\n".encode()
            more = ""
            if target == "/flooded":
                content = str(FLOODED[0]).encode()
            elif target == "/dns-query":
                content = await resolve(body, "https") or b""
            elif target.startswith("/metadata"):
                status, more = "302 Found", "Location: http://169.254.169.254/latest/meta-data/\r\n"
            elif target.startswith("/git/"):
                path = DIRECTORY / "www" / target.removeprefix("/git/").partition("?")[0]
                status, content = ("200 OK", path.read_bytes()) if path.is_file() else ("404 Not Found", b"")
            answer = f"HTTP/1.1 {status}\r\n{more}Content-Length: {len(content)}\r\n\r\n".encode()
            writer.write(answer + (content if method != "HEAD" else b""))
            await writer.drain()
    except (asyncio.IncompleteReadError, ConnectionError, ValueError):
        writer.close()


async def main() -> None:
    loop = asyncio.get_running_loop()
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(DIRECTORY / "server.pem")

    async def datagrams(address: str, port: int) -> None:
        make: Callable[[], Datagrams] = lambda: Datagrams(address, port)  # noqa: E731
        await loop.create_datagram_endpoint(make, local_addr=(address, port))

    for resolver in RESOLVERS:
        await datagrams(resolver, 53)
        await asyncio.start_server(resolve_stream, resolver, 53)
    for address in ADDRESSES:
        for port in UDP:
            await datagrams(address, port)
    for family, everywhere in ((socket.AF_INET, "0.0.0.0"), (socket.AF_INET6, "::")):
        await asyncio.start_server(echo, everywhere, ECHO, family=family)
        await asyncio.start_server(flood, everywhere, FLOOD, family=family)
        await asyncio.start_server(cut, everywhere, CUT, family=family)
        for port in WEB:
            await asyncio.start_server(web, everywhere, port, family=family)
        for port in SECURE:
            await asyncio.start_server(web, everywhere, port, family=family, ssl=tls)
    print("listening", flush=True)
    await loop.run_in_executor(None, sys.stdin.read)


if __name__ == "__main__":
    asyncio.run(main())
