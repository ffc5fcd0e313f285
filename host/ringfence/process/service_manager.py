"""What a service manager is told of this process, if one asks (sd_notify(3)): that it is ready, alive, or stopping.

It asks by `NOTIFY_SOCKET`, and for signs of life by `WATCHDOG_USEC`; the variables are for this process alone. Signs of
life are given by the event loop, so that one which is held up gives none, and is started again.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from collections.abc import AsyncIterator, MutableMapping

SOCKET, WATCHDOG, WATCHED_PID = "NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"
SIGNS_PER_PERIOD = 3
"""sd_watchdog_enabled(3) advises two; one of three may so come late."""


class ServiceManager:
    """Tells the service manager, or nobody."""

    def __init__(self, environ: MutableMapping[str, str] | None = None) -> None:
        """Take the variables out of the environment: what this process starts is not to speak for it."""
        environ = os.environ if environ is None else environ
        self._address = environ.pop(SOCKET, "")
        period, watched = environ.pop(WATCHDOG, ""), environ.pop(WATCHED_PID, "")
        is_for_us = not watched or watched == str(os.getpid())
        self.watchdog_seconds = int(period) / 1e6 if period.isdecimal() and is_for_us else 0.0

    def tell(self, *facts: str) -> None:
        """Send facts such as `READY=1`. Whoever does not listen is no reason to stop."""
        if not self._address:
            return
        # An address that begins with @ is in the abstract namespace (sd_notify(3)).
        address = "\0" + self._address[1:] if self._address.startswith("@") else self._address
        with (
            contextlib.suppress(OSError),
            socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sender,
        ):
            sender.sendto("\n".join(facts).encode(), address)

    @contextlib.asynccontextmanager
    async def told_of_life(self, status: str) -> AsyncIterator[None]:
        """Say that this process is ready, and give signs of life until the block ends; then that it stops."""
        self.tell("READY=1", f"STATUS={status}")
        signs = asyncio.create_task(self._give_signs(), name="signs of life")
        try:
            yield
        finally:
            signs.cancel()
            self.tell("STOPPING=1", "STATUS=Stopping")

    async def _give_signs(self) -> None:
        while self.watchdog_seconds:
            self.tell("WATCHDOG=1")
            await asyncio.sleep(self.watchdog_seconds / SIGNS_PER_PERIOD)
