"""A real HTTP server that stands where the host would, and keeps what it was asked."""

from __future__ import annotations

import contextlib
import json
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass(frozen=True)
class Request:
    """One request, as it arrived."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: Any


@dataclass(frozen=True)
class Answer:
    """What to answer: JSON, or `raw` as it is, or nothing, when the connection is closed instead (`hang_up`)."""

    status: int
    body: Any = None
    raw: bytes | None = None
    hang_up: bool = False

    def encoded(self) -> bytes:
        if self.raw is not None:
            return self.raw
        return b"" if self.body is None else json.dumps(self.body).encode()


def problem(status: int, title: str, **extra: object) -> Answer:
    """An RFC 9457 problem document."""
    return Answer(status, {"type": "about:blank", "status": status, "title": title, **extra})


@dataclass
class FakeHost:
    """The answers to give, by method and path without its query, and the requests that came."""

    url: str = ""
    answers: dict[tuple[str, str], Answer | Callable[[Request], Answer]] = field(default_factory=dict)
    requests: list[Request] = field(default_factory=list)

    def on(self, method: str, path: str, answer: Answer | Callable[[Request], Answer]) -> None:
        self.answers[method, path] = answer

    def only(self, method: str, path: str | None = None) -> Request:
        """The one request of that method, to that path if one is given."""
        [request] = [
            request for request in self.requests if request.method == method and path in {None, request.path}
        ]
        return request

    def respond(self, request: Request) -> Answer:
        self.requests.append(request)
        answer = self.answers.get((request.method, request.path.partition("?")[0]))
        if answer is None:
            return problem(404, f"nothing at {request.method} {request.path}")
        return answer(request) if callable(answer) else answer


class _Server(ThreadingHTTPServer):
    """Keeps what went wrong in its threads for the test to fail with. That a client leaves early is not wrong."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.faults: list[BaseException] = []

    def handle_error(self, request: object, client_address: object) -> None:
        """Take the place of a traceback on the console."""
        fault = sys.exception()
        if fault is not None and not isinstance(fault, ConnectionError):
            self.faults.append(fault)


@contextlib.contextmanager
def serving(host: FakeHost) -> Iterator[FakeHost]:
    """Serve `host` on a free loopback port; `host.url` says where."""

    class Handler(BaseHTTPRequestHandler):
        def _handle(self) -> None:
            headers = {name.lower(): value for name, value in self.headers.items()}
            if headers.get("transfer-encoding") == "chunked":
                body: Any = self._pieces()
            else:
                data = self.rfile.read(int(headers.get("content-length") or 0))
                body = json.loads(data) if data else None
            answer = host.respond(Request(self.command, self.path, headers, body))
            if answer.hang_up:
                self.close_connection = True
                return
            encoded = answer.encoded()
            self.send_response(answer.status)
            self.send_header("content-length", str(len(encoded)))
            self.end_headers()
            self.wfile.write(encoded)

        def _pieces(self) -> bytes:
            data = b""
            while length := int(self.rfile.readline(), 16):
                data += self.rfile.read(length)
                self.rfile.readline()
            self.rfile.readline()
            return data

        do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = _handle

        def log_message(self, format: str, *args: object) -> None:
            """Say nothing."""

    server = _Server(("127.0.0.1", 0), Handler)
    host.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield host
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
    if server.faults:
        raise server.faults[0]
