"""Who stands at the door: sockets that have not proved who they are, of which there is room for so many and no more.

Pure. Threat: somebody opens sockets and says nothing, to use up this instance's memory and descriptors, or to keep
satellites out by taking every place. Mechanism: when all places are taken, whoever has been silent for longest goes;
a satellite speaks as soon as it is connected, and so is kept out only by somebody who takes all places anew within
that time. Where nobody is silent it is the newest that is sent away, to try again later. Not covered: who they are by
their address, since behind a proxy all have the same; and connections that have not become WebSockets yet.
"""

from __future__ import annotations

from typing import Generic, TypeVar

V = TypeVar("V")


class Doorway(Generic[V]):
    """Room for `places` visitors, who are told apart by identity or equality."""

    def __init__(self, places: int) -> None:
        self._places = places
        self._silent: dict[V, None] = {}
        self._spoken: set[V] = set()

    def __len__(self) -> int:
        return len(self._silent) + len(self._spoken)

    def enter(self, visitor: V) -> V | None:
        """Take a visitor in, and answer who has to go for that.

        It is the one that has been silent for longest, or the visitor itself where nobody is silent; it has no place
        any more.
        """
        leaves = None
        if len(self) >= self._places:
            leaves = next(iter(self._silent), visitor)
            self.leave(leaves)
        if leaves is not visitor:
            self._silent[visitor] = None
        return leaves

    def spoke(self, visitor: V) -> None:
        """Note that a visitor is silent no more."""
        if visitor in self._silent:
            del self._silent[visitor]
            self._spoken.add(visitor)

    def leave(self, visitor: V) -> None:
        """Free a visitor's place, if it has one."""
        self._silent.pop(visitor, None)
        self._spoken.discard(visitor)
