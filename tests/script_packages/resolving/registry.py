"""A registry of the tests' own on the loopback: it serves what a test puts into it, well-behaved or not."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import ssl
import tarfile
import threading
import zipfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self


@dataclass
class Answer:
    """What one path answers. `body` may be an endless iterator; `cut` breaks the connection after so many bytes."""

    body: bytes | Iterator[bytes] = b""
    status: int = 200
    kind: str = "application/octet-stream"
    headers: Mapping[str, str] = field(default_factory=dict)
    cut: int | None = None


@dataclass(frozen=True)
class Request:
    """What came: the path, and the headers in small letters."""

    path: str
    headers: Mapping[str, str]
    body: bytes = b""


class _Server(ThreadingHTTPServer):
    def handle_error(self, *_: object) -> None:
        """A client that goes away in the middle is what many tests are about."""


class Registry:
    """Serves `answers` by their paths until the `with` is left; what came is in `requests`."""

    def __init__(self, *, password: str | None = None, tls: ssl.SSLContext | None = None) -> None:
        self.answers: dict[str, Answer | Callable[[Request], Answer]] = {}
        self.requests: list[Request] = []
        self._offered: dict[str, list[Mapping[str, object]]] = {}
        self._offered_npm: dict[str, list[Mapping[str, Any]]] = {}
        self.password = password
        registry = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                registry._serve(self)

            do_HEAD = do_POST = do_GET

            def log_message(self, *_: object) -> None:
                pass

        self._server = _Server(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.scheme = "http"
        if tls is not None:
            self._server.socket = tls.wrap_socket(self._server.socket, server_side=True)
            self.scheme = "https"

    def __enter__(self) -> Self:
        threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True
        ).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    @property
    def url(self) -> str:
        return f"{self.scheme}://127.0.0.1:{self._server.server_address[1]}"

    def asked_for(self, path: str) -> list[Request]:
        return [each for each in self.requests if each.path == path]

    def page(self, name: str, *files: Mapping[str, object]) -> None:
        """A page of the index of Python packages."""
        body = json.dumps({"meta": {"api-version": "1.1"}, "name": name, "files": list(files)}).encode()
        self.answers[f"/simple/{name}/"] = Answer(body, kind="application/vnd.pypi.simple.v1+json")

    def offer(
        self, name: str, version: str = "1.0", *, at: str | None = None, beside: bool = False, **more: Any
    ) -> bytes:
        """A wheel with its page, `beside` other versions or alone; answers its content. `more` is for `wheel`."""
        content = wheel(name, version, **more)
        filename = wheel_name(name, version)
        self.answers[f"/files/{filename}"] = Answer(content)
        others = self._offered.get(name, []) if beside else []
        self._offered[name] = [*others, told(filename, content, f"{at or self.url}/files/{filename}")]
        self.page(name, *self._offered[name])
        return content

    def npm(self, name: str, *versions: Mapping[str, Any]) -> None:
        """A page of npm."""
        page = {
            "name": name,
            "dist-tags": {"latest": versions[-1]["version"]},
            "versions": {each["version"]: dict(each) for each in versions},
        }
        path = f"/npm/{name.replace('/', '%2F')}"
        self.answers[path] = Answer(json.dumps(page).encode(), kind="application/json")

    def offer_npm(
        self, name: str, version: str = "1.0.0", *, at: str | None = None, beside: bool = False, **more: Any
    ) -> bytes:
        """A tarball with its page, `beside` other versions or alone. `more` is for its `package.json`."""
        manifest = {"name": name, "version": version, **more}
        content = tarball(
            {"package/package.json": json.dumps(manifest).encode(), "package/index.js": b"//\n"}
        )
        path = f"/npm/-/{name.replace('/', '-')}-{version}.tgz"
        self.answers[path] = Answer(content)
        dist = {"tarball": f"{at or self.url}{path}", "integrity": integrity(content)}
        others = self._offered_npm.get(name, []) if beside else []
        self._offered_npm[name] = [*others, {**manifest, "dist": dist}]
        self.npm(name, *self._offered_npm[name])
        return content

    def _serve(self, handler: BaseHTTPRequestHandler) -> None:
        length = int(handler.headers.get("content-length") or 0)
        request = Request(
            handler.path,
            {name.lower(): value for name, value in handler.headers.items()},
            handler.rfile.read(length),
        )
        self.requests.append(request)
        answer: Answer | Callable[[Request], Answer] = self.answers.get(handler.path, Answer(status=404))
        if self.password is not None and request.headers.get("authorization") != self.password:
            answer = Answer(status=401)
        if not isinstance(answer, Answer):
            answer = answer(request)
        try:
            self._send(handler, answer)
        except OSError:
            handler.close_connection = True

    def _send(self, handler: BaseHTTPRequestHandler, answer: Answer) -> None:
        handler.send_response(answer.status)
        handler.send_header("content-type", answer.kind)
        for name, value in answer.headers.items():
            handler.send_header(name, value)
        if not isinstance(answer.body, bytes):
            handler.send_header("connection", "close")
            handler.end_headers()
            handler.close_connection = True
            for piece in answer.body:
                handler.wfile.write(piece)
            return
        handler.send_header("content-length", str(len(answer.body)))
        handler.end_headers()
        if handler.command != "HEAD":
            handler.wfile.write(answer.body[: answer.cut])
        if answer.cut is not None:
            handler.close_connection = True


def told(filename: str, content: bytes, url: str, **more: object) -> dict[str, object]:
    """A file as an index tells of it."""
    digest = hashlib.sha256(content).hexdigest()
    return {"filename": filename, "url": url, "hashes": {"sha256": digest}, "size": len(content), **more}


def wheel_name(name: str, version: str = "1.0", tag: str = "py3-none-any") -> str:
    return f"{name.replace('-', '_')}-{version}-{tag}.whl"


def wheel(name: str, version: str = "1.0", *, needs: tuple[str, ...] = (), body: bytes = b"") -> bytes:
    """A small wheel that needs other packages."""
    info = f"{name.replace('-', '_')}-{version}.dist-info"
    metadata = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
    metadata += "".join(f"Requires-Dist: {each}\n" for each in needs)
    files = {
        f"{name.replace('-', '_')}.py": body or b"VALUE = 1\n",
        f"{info}/METADATA": metadata.encode(),
        f"{info}/WHEEL": b"Wheel-Version: 1.0\nGenerator: tests\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = "".join(f"{path},sha256={_urlsafe(content)},{len(content)}\n" for path, content in files.items())
    files[f"{info}/RECORD"] = f"{record}{info}/RECORD,,\n".encode()
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for path, content in files.items():
            archive.writestr(zipfile.ZipInfo(path), content)
    return out.getvalue()


def tarball(files: Mapping[str, bytes]) -> bytes:
    """A tarball as npm has them."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as archive:
        for path, content in files.items():
            member = tarfile.TarInfo(path)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return out.getvalue()


def integrity(content: bytes) -> str:
    return f"sha512-{base64.b64encode(hashlib.sha512(content).digest()).decode()}"


def _urlsafe(content: bytes) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
