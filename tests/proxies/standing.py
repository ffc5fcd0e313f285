"""The proxies of docs/behind-a-proxy.md, as the page has them, before a host; and one on the way to them."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import socketserver
import subprocess
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.certificates import PrivateTls
from tests.documents.blocks import ROOT, blocks
from tests.primitives import PROGRAMS
from tests.waiting import wait_until

PAGE = ROOT / "docs" / "behind-a-proxy.md"
NAME = "core.example.org"
NGINX = """
daemon off; user root; pid {tmp}/nginx.pid; error_log {tmp}/nginx.log;
events {{}}
http {{
    access_log off;
    client_body_temp_path {tmp}/body; proxy_temp_path {tmp}/proxy; fastcgi_temp_path {tmp}/fcgi;
    uwsgi_temp_path {tmp}/uwsgi; scgi_temp_path {tmp}/scgi;
    include {tmp}/ringfence.conf;
}}
"""
"""What Debian's /etc/nginx/nginx.conf is to a file in conf.d."""


@dataclass(frozen=True)
class Standing:
    """A proxy that stands: its port for everybody, and the one for those who have a certificate."""

    port: int
    port_with_certificate: int


def configuration(name: str) -> str:
    """A configuration as the page shows it."""
    [block] = [one for one in blocks(PAGE) if one.language == name]
    return block.text


@contextlib.contextmanager
def standing(name: str, host: int, tls: PrivateTls, directory: Path) -> Iterator[Standing]:
    """The proxy of that name before a host at that port, and before a second one that is down."""
    ports = _free_ports(3)
    text = _here(configuration(name), host, ports, tls)
    if name == "nginx":
        (directory / "ringfence.conf").write_text(text)
        path, arguments = directory / "nginx.conf", ["-p", str(directory), "-c"]
        path.write_text(NGINX.format(tmp=directory))
    else:
        path, arguments = directory / "haproxy.cfg", ["-db", "-f"]
        path.write_text(text)
    program = shutil.which(name, path=PROGRAMS)
    assert program is not None
    log = directory / "proxy.out"
    with log.open("wb") as output:
        process = subprocess.Popen([program, *arguments, str(path)], stdout=output, stderr=output)
    try:
        wait_until(lambda: _listens(ports[0]) or process.poll() is not None, "the proxy does not listen")
        assert process.poll() is None, log.read_text()
        yield Standing(*ports[:2])
    finally:
        process.terminate()
        process.wait(timeout=20)


def _here(text: str, host: int, ports: list[int], tls: PrivateTls) -> str:
    """The configuration with the ports and files of a test, each in place of one that it has."""
    instead = {
        "listen 443 ssl": f"listen 127.0.0.1:{ports[0]} ssl",
        "listen 8443 ssl": f"listen 127.0.0.1:{ports[1]} ssl",
        "bind :443 ": f"bind 127.0.0.1:{ports[0]} ",
        "bind :8443 ": f"bind 127.0.0.1:{ports[1]} ",
        "10.0.0.11:8484": f"127.0.0.1:{host}",
        "10.0.0.12:8484": f"127.0.0.1:{ports[2]}",
        "/etc/ssl/ringfence/core-with-key.pem": str(tls.chain),
        "/etc/ssl/ringfence/core.pem": str(tls.chain),
        "/etc/ssl/ringfence/core.key": str(tls.chain),
        "/etc/ssl/ringfence/clients.pem": str(tls.ca_file),
    }
    for old, new in instead.items():
        text = text.replace(old, new)
    assert "/etc/" not in text
    assert "10.0.0." not in text
    return text


def _free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [int(one.getsockname()[1]) for one in sockets]


def _listens(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True


class Forward(socketserver.ThreadingTCPServer):
    """A forward proxy (RFC 9110, 9.3.6) that has `NAME` lead to 127.0.0.1, and tells what it was asked for."""

    allow_reuse_address = True
    daemon_threads = True

    def __init__(self, ports: dict[int, int]) -> None:
        super().__init__(("127.0.0.1", 0), _Tunnel)
        self.ports = ports
        self.asked: list[str] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class _Tunnel(socketserver.StreamRequestHandler):
    server: Forward

    def handle(self) -> None:
        method, target, _ = self.rfile.readline().decode().split()
        while self.rfile.readline().strip():
            pass
        self.server.asked.append(f"{method} {target}")
        name, _, port = target.rpartition(":")
        if method != "CONNECT" or name != NAME:
            self.wfile.write(b"HTTP/1.1 403 Forbidden\r\n\r\n")
            return
        with socket.create_connection(("127.0.0.1", self.server.ports[int(port)])) as there:
            self.wfile.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
            back = threading.Thread(target=_pour, args=(there, self.connection))
            back.start()
            _pour(self.connection, there)
            back.join()


def _pour(source: socket.socket, sink: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while piece := source.recv(65536):
            sink.sendall(piece)
    for one in (source, sink):
        with contextlib.suppress(OSError):
            one.shutdown(socket.SHUT_RDWR)


@contextlib.contextmanager
def forwarding(to: Standing) -> Iterator[Forward]:
    """A forward proxy that leads to a proxy that stands."""
    with Forward({443: to.port, 8443: to.port_with_certificate}) as forward:
        thread = threading.Thread(target=forward.serve_forever)
        thread.start()
        try:
            yield forward
        finally:
            forward.shutdown()
            thread.join(20)


def clean_environment(**more: str) -> dict[str, str]:
    """The environment without any host of whoever runs the tests, and without their proxies."""
    left = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("RINGFENCE_") and not name.upper().endswith("_PROXY")
    }
    return {**left, "NO_COLOR": "1", **more}
