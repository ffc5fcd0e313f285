"""Proxies that stand before a host: TLS with a certificate that they ask for, and a path prefix that they take off."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.certificates import PrivateTls
from tests.primitives import PROGRAMS

NGINX = """
daemon off; user root; pid {tmp}/nginx.pid; error_log {tmp}/nginx.log;
events {{}}
http {{
    access_log off;
    client_body_temp_path {tmp}/body; proxy_temp_path {tmp}/proxy; fastcgi_temp_path {tmp}/fcgi;
    uwsgi_temp_path {tmp}/uwsgi; scgi_temp_path {tmp}/scgi;
    server {{
        listen 127.0.0.1:{port} ssl;
        ssl_certificate {chain}; ssl_certificate_key {chain};
        ssl_client_certificate {ca}; ssl_verify_client on;
        location /core/ {{ proxy_pass http://127.0.0.1:{host}/; }}
        location /core/api/ws/ {{
            proxy_pass http://127.0.0.1:{sockets}/api/ws/; proxy_http_version 1.1;
            proxy_set_header Upgrade $http_upgrade; proxy_set_header Connection upgrade;
        }}
    }}
}}
"""

HAPROXY = """
defaults
    mode http
    timeout connect 5s
    timeout client 60s
    timeout server 60s
frontend front
    bind 127.0.0.1:{port} ssl crt {chain} ca-file {ca} verify required
    use_backend sockets if {{ path_beg /core/api/ws/ }}
    default_backend host
backend host
    http-request replace-path /core(/.*) \\1
    server one 127.0.0.1:{host}
backend sockets
    http-request replace-path /core(/.*) \\1
    server one 127.0.0.1:{sockets}
"""


@dataclass(frozen=True)
class Behind:
    """The ports of what is behind a proxy: what answers requests, and what takes WebSockets."""

    host: int
    sockets: int


@contextlib.contextmanager
def standing(name: str, behind: Behind, tls: PrivateTls, port: int, directory: Path) -> Iterator[str]:
    """A proxy of that name ("own", "nginx", "haproxy"); its address, with the prefix."""
    if name == "own":
        with _own(behind, tls, port):
            yield f"https://127.0.0.1:{port}/core"
        return
    text = (NGINX if name == "nginx" else HAPROXY).format(
        tmp=directory, port=port, chain=tls.chain, ca=tls.ca_file, host=behind.host, sockets=behind.sockets
    )
    (directory / f"{name}.conf").write_text(text)
    program = shutil.which(name, path=PROGRAMS)
    assert program is not None
    arguments = ["-p", str(directory), "-c"] if name == "nginx" else ["-db", "-f"]
    process = subprocess.Popen(
        [program, *arguments, str(directory / f"{name}.conf")],
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
    )
    try:
        _wait(port, process)
        yield f"https://127.0.0.1:{port}/core"
    finally:
        process.terminate()
        process.communicate(timeout=20)


def _wait(port: int, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 20
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            assert process.poll() is None, process.communicate()
            assert time.monotonic() < deadline, "the proxy does not listen"
            time.sleep(0.02)
        else:
            return


@contextlib.contextmanager
def _own(behind: Behind, tls: PrivateTls, port: int) -> Iterator[None]:
    """A proxy in a thread of this process."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tls.chain)
    context.load_verify_locations(tls.ca_file)
    context.verify_mode = ssl.CERT_REQUIRED
    ready = threading.Event()
    loops: list[asyncio.AbstractEventLoop] = []
    stop = asyncio.Event()

    async def carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            head = await reader.readuntil(b"\r\n\r\n")
            assert b" /core/" in head.partition(b"\r\n")[0]
            head = head.replace(b" /core/", b" /", 1)
            upgrades = b"upgrade: websocket" in head.lower()
            if not upgrades:
                head = head[:-2] + b"Connection: close\r\n\r\n"
            to = behind.sockets if upgrades else behind.host
            theirs, ours = await asyncio.open_connection("127.0.0.1", to)
            ours.write(head)
            await asyncio.wait(
                [asyncio.create_task(_pour(reader, ours)), asyncio.create_task(_pour(theirs, writer))],
                return_when=asyncio.FIRST_COMPLETED,
            )
            ours.close()
        writer.close()

    async def serve() -> None:
        async with await asyncio.start_server(carry, "127.0.0.1", port, ssl=context):
            loops.append(asyncio.get_running_loop())
            ready.set()
            await stop.wait()

    thread = threading.Thread(target=lambda: asyncio.run(serve()))
    thread.start()
    try:
        assert ready.wait(20)
        yield
    finally:
        loops[0].call_soon_threadsafe(stop.set)
        thread.join(20)


async def _pour(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while piece := await reader.read(65536):
            writer.write(piece)
            await writer.drain()
