"""Asks the host for a run's secrets, just in time. They pass through here, and are kept nowhere."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager

from ringfence.scripts import NoSecretsError

from ringfence_satellite.protocol import RequestRunSecrets, RunSecrets

ANSWER_SECONDS = 10.0
Send = Callable[[str], Awaitable[bool]]


class SecretRequests:
    """The requests that are under way. `connected` says over what they go."""

    def __init__(self, *, answer_seconds: float = ANSWER_SECONDS) -> None:
        self._answer_seconds = answer_seconds
        self._send: Send | None = None
        self._waiting: dict[str, asyncio.Future[RunSecrets]] = {}

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
                    waiting.set_exception(NoSecretsError("the connection to the host was lost"))

    async def ask(self, config_id: str) -> Mapping[str, str]:
        """The secrets of one run of an assignment. Raises `NoSecretsError`."""
        if self._send is None:
            raise NoSecretsError("there is no connection to the host, and the satellite stores no secrets")
        request = RequestRunSecrets(request_id=str(uuid.uuid4()), config_id=config_id)
        waiting: asyncio.Future[RunSecrets] = asyncio.get_running_loop().create_future()
        self._waiting[request.request_id] = waiting
        try:
            if not await self._send(request.encode()):
                raise NoSecretsError("the connection to the host was lost")
            async with asyncio.timeout(self._answer_seconds):
                answer = await waiting
        except TimeoutError as error:
            raise NoSecretsError(f"the host did not answer within {self._answer_seconds:g} s") from error
        finally:
            del self._waiting[request.request_id]
        if answer.env is None:
            raise NoSecretsError(answer.error or "the host sent no secrets")
        return answer.env

    def answered(self, frame: RunSecrets) -> None:
        """The host has answered. An answer that nobody waits for is dropped."""
        waiting = self._waiting.get(frame.request_id)
        if waiting is not None and not waiting.done():
            waiting.set_result(frame)
