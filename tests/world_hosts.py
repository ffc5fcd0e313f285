"""The hosts of the tests' world: every address answers on a few ports, by TCP and UDP. Run as a script.

An answer says which address and port was reached. Port 8080 speaks HTTP, and sends whoever asks on to the metadata
service; port 80 answers HTTP too, as that service would. It ends when its standard input does.
"""

from __future__ import annotations

import asyncio
import socket
import struct
import sys
from typing import cast

PORTS = (53, 80, 81, 8080)
REDIRECT = b"HTTP/1.0 302 Found\r\nLocation: http://169.254.169.254/latest/meta-data/\r\n\r\n"
BODY = b"HTTP/1.0 200 OK\r\n\r\n"


def plain(address: str) -> str:
    """An address as its family writes it, whichever socket it came from."""
    return address.removeprefix("::ffff:")


async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    address, port = writer.get_extra_info("sockname")[:2]
    if port == 8080:
        writer.write(REDIRECT)
    else:
        writer.write(BODY + f"reached {plain(address)} {port}\n".encode())
    await writer.drain()
    writer.write_eof()
    await reader.read()
    writer.close()


def resolve(query: bytes) -> bytes:
    """The answer to a DNS query (RFC 1035): every name there is has the address 10.9.0.1, and no IPv6 one."""
    question_end = query.index(b"\0", 12) + 5
    asks_for_ipv4 = query[question_end - 4 : question_end - 2] == b"\0\x01"
    counts = struct.pack(">HHHH", 1, int(asks_for_ipv4), 0, 0)
    answer = struct.pack(">HHHIH4B", 0xC00C, 1, 1, 60, 4, 10, 9, 0, 1) if asks_for_ipv4 else b""
    return query[:2] + b"\x81\x80" + counts + query[12:question_end] + answer


class Echo(asyncio.DatagramProtocol):
    """Answers a datagram with where it arrived."""

    def __init__(self, port: int) -> None:
        self._port = port

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.DatagramTransport, transport)

    def datagram_received(self, data: bytes, addr: tuple[str | object, int]) -> None:
        is_query = self._port == 53 and len(data) > 12
        self._transport.sendto(resolve(data) if is_query else f"reached by udp {self._port}\n".encode(), addr)


async def main() -> None:
    loop = asyncio.get_running_loop()
    for port in PORTS:
        for family, everywhere in ((socket.AF_INET, "0.0.0.0"), (socket.AF_INET6, "::")):
            await asyncio.start_server(answer, everywhere, port, family=family)
            datagrams = socket.socket(family, socket.SOCK_DGRAM)
            if family == socket.AF_INET6:
                datagrams.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            datagrams.bind((everywhere, port))
            await loop.create_datagram_endpoint(lambda port=port: Echo(port), sock=datagrams)  # type: ignore[misc]
    abstract = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    abstract.bind("\0ringfence-test")
    await asyncio.start_unix_server(answer_abstract, sock=abstract)
    print("listening", flush=True)
    await loop.run_in_executor(None, sys.stdin.read)


async def answer_abstract(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"reached by an abstract socket\n")
    await writer.drain()
    writer.close()


if __name__ == "__main__":
    asyncio.run(main())
