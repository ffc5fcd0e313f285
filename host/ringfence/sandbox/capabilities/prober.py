"""What has been found out about this host is remembered, as long as it can be relied on.

What works is remembered. What failed by a fault that may pass is tried again by the next run, and what this host does
not have is looked for again after a while, beside the runs, so that a remedy takes effect without a restart.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Hashable
from typing import TYPE_CHECKING, Generic, NamedTuple, TypeVar

if TYPE_CHECKING:
    from ringfence.sandbox.capabilities.model import Capabilities

K = TypeVar("K", bound=Hashable)

RENEW_S = 300.0
"""After how long it is looked again for what was missing."""


class _Found(NamedTuple):
    capabilities: Capabilities
    begun: float
    certain: bool
    lacking: bool


class Prober(Generic[K]):
    """Remembers what `look` finds, for each thing that it is asked for. Any thread may ask."""

    def __init__(
        self, look: Callable[[K], Capabilities], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._look = look
        self._clock = clock
        self._found: dict[K, _Found] = {}
        self._looking: defaultdict[K, threading.Lock] = defaultdict(threading.Lock)

    def known(self, key: K) -> Capabilities | None:
        """What is known and can be relied on; None if it has to be found out. Does not wait."""
        found = self._found.get(key)
        if found is None or not found.certain:
            return None
        if found.lacking and self._clock() - found.begun >= RENEW_S:
            # Without a thread for it, it is left to the next time.
            with contextlib.suppress(RuntimeError):
                threading.Thread(
                    target=self._renew, args=(key, found), name="ringfence-renew", daemon=True
                ).start()
        return found.capabilities

    def find(self, key: K) -> Capabilities:
        """What is known, or else what is found now; several that ask at once wait for the same look."""
        asked = self._clock()
        if (known := self.known(key)) is not None:
            return known
        with self._looking[key]:
            found = self._found.get(key)
            if found is not None and (found.begun >= asked or found.certain):
                return found.capabilities
            return self._look_again(key)

    def anew(self, key: K) -> Capabilities:
        """What is found now, whatever is known; it is remembered from here on."""
        with self._looking[key]:
            return self._look_again(key)

    def _renew(self, key: K, stale: _Found) -> None:
        with self._looking[key]:
            if self._found.get(key) is stale:
                self._look_again(key)

    def _look_again(self, key: K) -> Capabilities:
        begun = self._clock()
        capabilities = self._look(key)
        if (before := self._found.get(key)) is not None:
            capabilities = capabilities.remembering(before.capabilities)
        self._found[key] = _Found(
            capabilities, begun, certain=capabilities.is_certain, lacking=bool(capabilities.lacks())
        )
        return capabilities
