"""Where the host is: the addresses of its instances, and which of them is tried next. Pure."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from urllib.parse import urlsplit

from ringfence.process.proxies import is_loopback


class HostAddresses:
    """Addresses that are tried in turn, all of them before one is tried again.

    In an order that each agent draws for itself (`shuffle` puts a list into it): so a fleet spreads over the instances,
    and the satellites of one that dies spread over those that are left.
    """

    def __init__(self, urls: Sequence[str], shuffle: Callable[[list[str]], object] = random.shuffle) -> None:
        self._turn = list(urls)
        shuffle(self._turn)

    @property
    def current(self) -> str:
        """The address to connect to."""
        return self._turn[0]

    def move_on(self) -> None:
        """Go to the next one, or to the same if there is no other."""
        self._turn.append(self._turn.pop(0))


def is_in_the_clear(url: str) -> bool:
    """Whether the token and every script cross a network that others may listen to."""
    return urlsplit(url).scheme == "ws" and not is_loopback(url)
