"""Gets locks and files of packages from the host, piece by piece, over the connection that there is.

Threat: a host, or who stands in for one, sends too much, or something else than was asked for. Mechanism: a piece has
no more bytes than were asked for, a file as many as its lock says, and a lock no more than `MAX_LOCK_BYTES`; whoever
puts the pieces together believes the whole by its hash alone (`ringfence.scripts.packages.keeping`). One piece is asked
for at a time: what else the host has to say, a policy above all, comes in between.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import contextmanager

from ringfence.scripts.packages.errors import PackagesError
from ringfence.scripts.packages.lock import Lock, LockedFile

from ringfence_satellite.protocol import (
    MAX_PACKAGE_PIECE,
    RequestScriptPackageBlob,
    RequestScriptPackageManifest,
    ScriptPackagePiece,
)

ANSWER_SECONDS = 30.0
MAX_LOCK_BYTES = 64 * 1024**2
LOST = "the connection to the host was lost"
Send = Callable[[str], Awaitable[bool]]


class HostPackages:
    """What the host has of packages. `connected` says over what it is asked. Implements `PackageSource`."""

    def __init__(self, *, answer_seconds: float = ANSWER_SECONDS) -> None:
        self._answer_seconds = answer_seconds
        self._send: Send | None = None
        self._waiting: dict[str, asyncio.Future[ScriptPackagePiece]] = {}
        self._one_at_a_time = asyncio.Lock()
        self._lock = ""

    @contextmanager
    def connected(self, send: Send) -> Iterator[None]:
        """Ask over this connection while the block runs; who waits for an answer when it ends gets none."""
        self._send = send
        try:
            yield
        finally:
            self._send = None
            for waiting in self._waiting.values():
                if not waiting.done():
                    waiting.set_exception(PackagesError(LOST))

    def answered(self, frame: ScriptPackagePiece) -> None:
        """The host has answered. An answer that nobody waits for is dropped."""
        waiting = self._waiting.get(frame.request_id)
        if waiting is not None and not waiting.done():
            waiting.set_result(frame)

    async def lock(self, hash: str) -> Lock:
        """See `PackageSource`. The files that are asked for next are those of this lock."""
        self._lock = hash
        content, total = b"", 1
        while len(content) < total:
            request = RequestScriptPackageManifest(request_id=_new_id(), lock=hash, offset=len(content))
            piece, total = await self._piece(request)
            if total > MAX_LOCK_BYTES:
                raise PackagesError(f"the host sends a lock of {total} bytes")
            content += piece
        try:
            return await asyncio.to_thread(Lock.model_validate_json, content)
        except ValueError as error:
            raise PackagesError("the host sends a lock that cannot be read") from error

    async def blob(self, file: LockedFile, *, offset: int) -> AsyncIterator[bytes]:
        """See `PackageSource`."""
        while offset < file.size:
            request = RequestScriptPackageBlob(
                request_id=_new_id(), lock=self._lock, sha256=file.sha256, offset=offset
            )
            piece, total = await self._piece(request)
            if total != file.size:
                raise PackagesError(f"the host has another {file.filename}, of {total} bytes")
            offset += len(piece)
            yield piece

    async def _piece(
        self, request: RequestScriptPackageManifest | RequestScriptPackageBlob
    ) -> tuple[bytes, int]:
        """The bytes that come in answer to a request, one at least, and how many there are of the whole."""
        async with self._one_at_a_time:
            answer = await self._ask(request)
        if answer.error is not None:
            raise PackagesError(f"the host does not send them: {answer.error}")
        try:
            content = answer.taken()
        except ValueError as error:
            raise PackagesError("the host sends what cannot be read") from error
        if not content or len(content) > MAX_PACKAGE_PIECE:
            raise PackagesError(f"the host sends {len(content)} bytes at once")
        return content, answer.total

    async def _ask(
        self, request: RequestScriptPackageManifest | RequestScriptPackageBlob
    ) -> ScriptPackagePiece:
        if self._send is None:
            raise PackagesError("there is no connection to the host")
        waiting: asyncio.Future[ScriptPackagePiece] = asyncio.get_running_loop().create_future()
        self._waiting[request.request_id] = waiting
        try:
            if not await self._send(request.encode()):
                raise PackagesError(LOST)
            async with asyncio.timeout(self._answer_seconds):
                return await waiting
        except TimeoutError as error:
            raise PackagesError(f"the host did not answer within {self._answer_seconds:g} s") from error
        finally:
            del self._waiting[request.request_id]


def _new_id() -> str:
    return str(uuid.uuid4())
