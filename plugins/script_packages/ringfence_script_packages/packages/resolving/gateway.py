"""The one door to the registries for a resolver in its sandbox: a small server on this machine's loopback.

Threat: a resolver that reads what hostile registries say must neither hold a credential nor reach anything else, and
not even a registry by itself: what it asks for there, and how much of that it takes, would be its own affair.
Mechanism: its sandbox has no network but this door. The door asks the registries with our own client (see `client`),
names every file in its answers by a number, and serves only files that a registry has named. Who does not know the
first part of its paths, which is made anew each time, gets nothing: other users of this machine can connect to it.
Not covered: a registry may name a file at any https address, which is then read.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import hmac
import json
import re
import secrets
import threading
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any, Self
from urllib.parse import quote, unquote

import h11
import httpx
from packaging.utils import canonicalize_name

from ringfence_script_packages.packages.errors import PackagesError, Why
from ringfence_script_packages.packages.resolving.client import RegistryClient, place_of
from ringfence_script_packages.packages.resolving.fetching import FileFetcher, Measured
from ringfence_script_packages.packages.resolving.index_pages import (
    ACCEPT,
    IndexFile,
    UnreadablePageError,
    files_of,
    offer_of,
    page_of,
)
from ringfence_script_packages.packages.resolving.local_index import local_files
from ringfence_script_packages.packages.resolving.registries import Registry
from ringfence_script_packages.packages.resolving.wheel_metadata import UnreadableWheelError, read_wheel

NPM_ACCEPT = "application/vnd.npm.install-v1+json; q=1.0, application/json; q=0.8"
MOST_CONNECTIONS = 64
MOST_PACKAGES = 5000
"""How many packages a resolver may ask for: a registry could name ever more of them."""

MOST_BYTES = 2 * 1024**3
"""How much a resolver may be sent of files: metadata, and tarballs of npm that bring packages within them."""

_JSON = "application/json"
_PYPI_JSON = "application/vnd.pypi.simple.v1+json"
_PATH = re.compile(r"/([^/]+)/(pypi|npm|file)/(.+)")


class Gateway:
    """Serves one resolver. After it has ended, `problems` and `lacking` say why it may not have had what it wanted."""

    def __init__(self, client: RegistryClient, asked: Callable[[str], object] = lambda _: None) -> None:
        self._client = client
        self._fetcher = FileFetcher(client)
        self._asked = asked
        self._token = secrets.token_urlsafe(32)
        self._numbering = threading.Lock()
        self._numbers: dict[str, int] = {}
        self._files: list[IndexFile] = []
        self._made: dict[tuple[str, str], asyncio.Task[bytes]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._sent = 0
        self.measured: dict[str, Measured] = {}
        """What the files turned out to be that had to be read."""
        self.limits: dict[str, dict[str, Any]] = {}
        """For which machines a file of npm is, as its registry says: `os`, `cpu` and `libc`."""
        self.problems: dict[str, PackagesError] = {}
        """For which package a registry could not be asked, and why."""
        self.lacking: dict[str, str] = {}
        """For which Python package there is no wheel for Linux at all, and what there is."""

    async def __aenter__(self) -> Self:
        # A request is small; a longer one is refused by its parser.
        self._server = await asyncio.start_server(self._connected, "127.0.0.1", 0, limit=64 * 1024)
        self.port: int = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        tasks = [*self._tasks, *self._made.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    @property
    def python(self) -> str:
        """The address of its index of Python packages."""
        return f"{self._base}/pypi/"

    @property
    def npm(self) -> str:
        """The address of its registry of npm."""
        return f"{self._base}/npm/"

    def file_at(self, url: str) -> IndexFile | None:
        """The registry's file that an address of this server stands for."""
        if not url.startswith(f"{self._base}/file/"):
            return None
        number = url.removeprefix(f"{self._base}/file/").partition("/")[0]
        return self._files[int(number)] if number.isdecimal() and int(number) < len(self._files) else None

    async def npm_page(self, name: str) -> bytes:
        """What the resolver would be told of a package of npm. Raises `PackagesError`, which is no problem of its."""
        return await self._once(("npm", name), lambda: self._npm_page(name))

    def told(self, text: str) -> str:
        """What a resolver said, with none of this server's addresses in it."""
        text = re.sub(rf"{re.escape(self._base)}/(pypi|npm|file)/\S*", "the registry", text)
        return text.replace(self._token, "…")

    @property
    def _base(self) -> str:
        return f"http://127.0.0.1:{self.port}/{self._token}"

    # What it answers

    async def _package(self, kind: str, name: str) -> bytes:
        """The page of a package, asked for once."""
        make = self._python_page if kind == "pypi" else self._npm_page
        try:
            return await self._once((kind, name), lambda: make(name))
        except PackagesError as error:
            self.problems.setdefault(name, error)
            raise

    async def _once(self, key: tuple[str, str], make: Callable[[], Coroutine[Any, Any, bytes]]) -> bytes:
        """What `make` gives, made once for all who ask for it."""
        if key not in self._made:
            if len(self._made) >= MOST_PACKAGES:
                raise PackagesError(
                    Why.TOO_LARGE, f"more than {MOST_PACKAGES} packages are needed", package=key[1]
                )
            self._asked(key[1].rpartition("/")[2] if key[0] == "metadata" else key[1])
            self._made[key] = asyncio.create_task(make())
        return await asyncio.shield(self._made[key])

    async def _read_wheel(self, file: IndexFile) -> bytes:
        name = canonicalize_name(file.filename.partition("-")[0])
        try:
            async with contextlib.aclosing(self._fetcher.raw(file.url, file.filename)) as pieces:
                text, self.measured[file.url] = await read_wheel(pieces, name)
        except UnreadableWheelError as error:
            problem = PackagesError(Why.FAILED, str(error), package=file.filename)
            self.problems.setdefault(name, problem)
            raise problem from None
        except PackagesError as error:
            self.problems.setdefault(name, error)
            raise
        return text

    async def _python_page(self, name: str) -> bytes:
        found: list[IndexFile] = []
        known = False
        for index in self._client.registries.python:
            files = await self._python_files(index, name)
            if files is None:
                continue
            known = True
            found += files
            # Beyond the first, a stranger could offer a higher version of a package that is somebody's own.
            if not self._client.registries.merged:
                break
        if not known:
            raise PackagesError(
                Why.NOT_FOUND,
                f"there is no such package in {self._asked_registries()}",
                package=name,
                hint="check the name",
            )
        offer = await asyncio.to_thread(offer_of, found, name)
        if not offer.wheels:
            what = "it is for other systems than Linux"
            if offer.sources:
                what = "there is only its source, which would run its code to be built"
            elif not offer.others:
                what = "its registry has no files of it"
            self.lacking[name] = what
        named = [
            IndexFile(
                file.filename,
                self._named(file, file.filename),
                # uv would read each wheel that has none. What it is told is not what is locked: see `file_at`.
                file.sha256 or hashlib.sha256(file.url.encode()).hexdigest(),
                file.size,
                file.requires_python,
                file.yanked,
                # Read here, if need be: uv is to have no wheel itself.
                metadata=True,
            )
            for file in offer.wheels
        ]
        return await asyncio.to_thread(page_of, name, named)

    async def _python_files(self, index: Registry, name: str) -> tuple[IndexFile, ...] | None:
        """What one index has of a package; None if it does not know it."""
        if index.directory is not None:
            return await asyncio.to_thread(local_files, index, name)
        url = f"{index.url}/{quote(name)}/"
        try:
            address, kind, body = await self._client.page(url, accept=ACCEPT, package=name)
        except PackagesError as error:
            if error.why is Why.NOT_FOUND:
                return None
            raise
        try:
            return await asyncio.to_thread(files_of, kind, body, address)
        except UnreadablePageError as error:
            raise PackagesError(
                Why.FAILED,
                f"the answer of {place_of(index.url)} cannot be read: {error}",
                package=name,
                hint="check that its address is that of a simple index, which often ends with /simple",
            ) from None

    async def _npm_page(self, name: str) -> bytes:
        registry = self._client.registries.npm_for(name)
        if registry is None:
            raise PackagesError(
                Why.FAILED,
                "no registry of npm is known",
                package=name,
                hint="set the address of a registry of npm",
            )
        url = f"{registry.url}/{quote(name, safe='@')}"
        _, _, body = await self._client.page(url, accept=NPM_ACCEPT, package=name)
        try:
            return await asyncio.to_thread(self._npm_rewritten, body, name)
        except (ValueError, RecursionError, AttributeError, TypeError, KeyError):
            raise PackagesError(
                Why.FAILED,
                f"the answer of {place_of(registry.url)} cannot be read",
                package=name,
                hint="check the address of the registry",
            ) from None

    def _npm_rewritten(self, body: bytes, name: str) -> bytes:
        page: dict[str, Any] = json.loads(body)
        if page["name"] != name:
            raise ValueError("it is about another package")
        for version, told in page["versions"].items():
            dist = told["dist"]
            file = IndexFile(f"{name.replace('/', '-')}-{version}.tgz", str(dist["tarball"]))
            dist["tarball"] = self._named(file, "package.tgz")
            # npm would refuse what does not fit this host, which is not where scripts run.
            self.limits[file.url] = {each: told.pop(each) for each in ("os", "cpu", "libc") if each in told}
        return json.dumps(page).encode()

    def _named(self, file: IndexFile, name: str) -> str:
        """The address here of a registry's file."""
        # Large pages are read by threads.
        with self._numbering:
            number = self._numbers.setdefault(file.url, len(self._files))
            if number == len(self._files):
                self._files.append(file)
        return f"{self._base}/file/{number}/{quote(name)}"

    def _asked_registries(self) -> str:
        return (
            ", ".join(dict.fromkeys(place_of(each.url) for each in self._client.registries.python))
            or "any index"
        )

    # How it serves

    def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if len(self._tasks) >= MOST_CONNECTIONS:
            writer.close()
            return
        task = asyncio.create_task(self._serve(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer the requests of one connection, one after another."""
        connection = h11.Connection(h11.SERVER)
        try:
            while True:
                request = await _next_request(connection, reader)
                if request is None:
                    return
                await self._answer(connection, writer, request)
                if connection.our_state is not h11.DONE or connection.their_state is not h11.DONE:
                    return
                connection.start_next_cycle()
        except (OSError, h11.ProtocolError):
            # The resolver is gone, or speaks something else.
            pass
        finally:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    async def _answer(
        self, connection: h11.Connection, writer: asyncio.StreamWriter, request: h11.Request
    ) -> None:
        match = _PATH.fullmatch(request.target.decode("ascii", "replace").partition("?")[0])
        method = request.method.decode("ascii", "replace")
        known = match is not None and hmac.compare_digest(match[1].encode(), self._token.encode())
        if match is None or not known or method not in ("GET", "HEAD"):
            await _send(connection, writer, 404, b"")
            return
        kind, rest = match[2], unquote(match[3])
        try:
            if kind == "file":
                await self._send_file(connection, writer, request, rest, method)
                return
            name = canonicalize_name(rest.strip("/")) if kind == "pypi" else rest
            body = await self._package(kind, name)
        except PackagesError as error:
            # Whatever it is, the resolver is told that there is nothing; what it was is in `problems`.
            if connection.our_state is h11.SEND_RESPONSE or connection.our_state is h11.IDLE:
                status = 404 if error.why is Why.NOT_FOUND else 403
                await _send(connection, writer, status, b"{}")
            else:
                writer.transport.abort()
            return
        await _send(
            connection,
            writer,
            200,
            b"" if method == "HEAD" else body,
            _PYPI_JSON if kind == "pypi" else _JSON,
        )

    async def _send_file(
        self,
        connection: h11.Connection,
        writer: asyncio.StreamWriter,
        request: h11.Request,
        rest: str,
        method: str,
    ) -> None:
        number, _, name = rest.partition("/")
        if not number.isdecimal() or int(number) >= len(self._files):
            await _send(connection, writer, 404, b"")
            return
        file = self._files[int(number)]
        if name == f"{file.filename}.metadata" and not file.metadata:
            text = await self._once(("metadata", file.url), lambda: self._read_wheel(file))
            await _send(connection, writer, 200, b"" if method == "HEAD" else text, "text/plain")
            return
        url = f"{file.url}.metadata" if name == f"{file.filename}.metadata" else file.url
        headers = {"accept-encoding": "identity"}
        for given, value in request.headers:
            if given == b"range":
                headers["range"] = value.decode("ascii", "replace")
        try:
            async with self._client.open(
                url, method=method, headers=headers, package=file.filename
            ) as answer:
                passed = ("content-length", "content-range", "accept-ranges", "content-type")
                response = h11.Response(
                    status_code=answer.status_code,
                    headers=[(each, answer.headers[each]) for each in passed if each in answer.headers],
                )
                await self._pass_on(connection, writer, response, answer.aiter_raw(64 * 1024))
        except httpx.HTTPError:
            writer.transport.abort()
        except PackagesError as error:
            self.problems.setdefault(file.filename, error)
            raise

    async def _pass_on(
        self,
        connection: h11.Connection,
        writer: asyncio.StreamWriter,
        response: h11.Response,
        pieces: AsyncIterator[bytes],
    ) -> None:
        writer.write(connection.send(response) or b"")
        async for piece in pieces:
            self._sent += len(piece)
            if self._sent > MOST_BYTES:
                raise PackagesError(
                    Why.TOO_LARGE,
                    f"the registries sent more than {MOST_BYTES // 1024**3} GiB for metadata alone",
                )
            writer.write(connection.send(h11.Data(data=piece)) or b"")
            await writer.drain()
        writer.write(connection.send(h11.EndOfMessage()) or b"")
        await writer.drain()


async def _next_request(connection: h11.Connection, reader: asyncio.StreamReader) -> h11.Request | None:
    """The next request, once it is whole; None at the end."""
    found: h11.Request | None = None
    while True:
        event = connection.next_event()
        if event is h11.NEED_DATA:
            connection.receive_data(await reader.read(64 * 1024))
        elif isinstance(event, h11.Request):
            found = event
        elif isinstance(event, h11.EndOfMessage):
            return found
        elif isinstance(event, h11.ConnectionClosed) or event is h11.PAUSED:
            return None


async def _send(
    connection: h11.Connection, writer: asyncio.StreamWriter, status: int, body: bytes, kind: str = _JSON
) -> None:
    headers = [("content-length", str(len(body))), ("content-type", kind)]
    for event in (h11.Response(status_code=status, headers=headers), h11.Data(data=body), h11.EndOfMessage()):
        writer.write(connection.send(event) or b"")
    await writer.drain()
