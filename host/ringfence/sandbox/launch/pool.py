"""Sandboxes that are prepared before they are wanted, each used exactly once.

A waiting sandbox holds nothing of any run: its script, context and the caller's variables come at its start, and so its
wall clock begins there. It is interchangeable with one made on the spot: same plan, same command, same policy revision;
when any of these is no longer what is asked for, it is thrown away, as it is after some idle time.

The pool belongs to no event loop: what waits are descriptors and a process. What is thrown away is ended elsewhere,
and no run waits for that. It fills up for a kind of run only from that kind's second run on, so that a program that
runs one script prepares one sandbox.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Protocol

from ringfence.sandbox.launch.discard import discard
from ringfence.sandbox.launch.making.prepare import Prepared, prepare, takes_long
from ringfence.sandbox.launch.words import Command, LaunchFailed
from ringfence.sandbox.plan.model import Plan
from ringfence.sandbox.workers import PREPARATIONS


class Held(Protocol):
    """Something that stays as it is until it is let go."""

    def close(self) -> None:
        """Let it go."""


@dataclass(frozen=True, slots=True)
class Want:
    """What a run needs of a sandbox. `generation` changes with the policy's revision and its source.

    `hold` takes hold of what such a sandbox shows and others may remove, for as long as one waits; it gives None if
    that has gone. While a sandbox is made for a run, or used, the run holds it.
    """

    plan: Plan
    command: Command
    generation: Hashable
    hold: Callable[[], Held | None] | None = field(default=None, repr=False, compare=False)
    _hash: int = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        # A plan is large, and each run asks a dozen times.
        object.__setattr__(self, "_hash", hash((self.plan, self.command, self.generation)))

    def __hash__(self) -> int:
        return self._hash


@dataclass(frozen=True, slots=True)
class _Waiting:
    prepared: Prepared
    since: float
    held: Held | None

    def throw_away(self) -> Future[None]:
        """End it; what it shows is held until it has ended."""
        ended = discard(self.prepared)
        ended.add_done_callback(lambda _: self.let_go())
        return ended

    def let_go(self) -> None:
        """Let go of what it shows: it has ended, or the run that takes it holds that."""
        if self.held is not None:
            self.held.close()


class Pool:
    """Prepared sandboxes by what they are for; at most `limit` in all, each for at most `idle_s` seconds."""

    def __init__(self, limit: int, idle_s: float) -> None:
        self._limit = limit
        self._idle_s = idle_s
        self._waiting: OrderedDict[Want, list[_Waiting]] = OrderedDict()
        self._seen: set[Want] = set()
        self._filling: set[Want] = set()
        self._era = 0
        self._lock = threading.Lock()

    def take(self, want: Want) -> Prepared | None:
        """A waiting sandbox, now the caller's to use once; None if there is none."""
        if not self._limit:
            return None
        with self._lock:
            stale = [other for other in self._waiting if other.generation != want.generation]
            thrown = [waiting for other in stale for waiting in self._waiting.pop(other)]
            self._seen = {other for other in self._seen if other.generation == want.generation}
            here = self._waiting.get(want, [])
            # The oldest: the newest may still be in the making.
            taken = here.pop(0) if here else None
        for waiting in thrown:
            waiting.throw_away()
        if taken is None:
            return None
        taken.let_go()
        return taken.prepared

    async def make(self, want: Want) -> Prepared:
        """A sandbox that is made now, for the caller to use once. Raises LaunchFailed."""
        if not takes_long(want.plan):
            return prepare(want.plan, want.command)
        making = PREPARATIONS.submit(prepare, want.plan, want.command)
        try:
            return await asyncio.wrap_future(making)
        except asyncio.CancelledError:
            making.add_done_callback(_discard_unwanted)
            raise

    def refill(self, want: Want) -> None:
        """Prepare sandboxes for the next runs like this one, as far as the limit goes; others make room for them.

        Only from the second run of a kind on. A sandbox that cannot be prepared is not missed: the next run
        makes its own, and says why it could not.
        """
        if not self._limit:
            return
        with self._lock:
            self._learn(want)
            known = want in self._seen
            self._seen.add(want)
            if not known or want in self._filling:
                return
            self._filling.add(want)
        if takes_long(want.plan):
            filled = PREPARATIONS.submit(self._fill, want)
            with contextlib.suppress(RuntimeError):
                asyncio.wrap_future(filled).add_done_callback(lambda _: self._expire_later())
        else:
            self._fill(want)
            self._expire_later()

    def _learn(self, want: Want) -> None:
        """Take in what those have told that were prepared earlier: the runs that take them begin sooner.

        They get ready in the order in which they were prepared.
        """
        for waiting in self._waiting.get(want, []):
            if not waiting.prepared.learn():
                break

    def _fill(self, want: Want) -> None:
        era = self._era
        try:
            with contextlib.suppress(LaunchFailed):
                while self._room_for(want) and self._prepared(want, era):
                    pass
        finally:
            with self._lock:
                self._filling.discard(want)

    def _room_for(self, want: Want) -> bool:
        """Whether one more may be prepared for `want`, after making room: each kind has an equal share of the limit."""
        with self._lock:
            self._waiting.setdefault(want, [])
            self._waiting.move_to_end(want)
            share = max(self._limit // len(self._waiting), 1)
            if len(self._waiting[want]) >= share:
                return False
            evicted = None
            if sum(map(len, self._waiting.values())) >= self._limit:
                fullest = max(self._waiting, key=lambda other: len(self._waiting[other]))
                if fullest == want:
                    return False
                evicted = self._waiting[fullest].pop(0)
                if not self._waiting[fullest]:
                    del self._waiting[fullest]
        if evicted is not None:
            evicted.throw_away()
        return True

    def _prepared(self, want: Want, era: int) -> bool:
        """Prepare one, and let it wait. False if it is thrown away, or what it would show has gone."""
        held = None
        if want.hold is not None and (held := want.hold()) is None:
            return False
        try:
            prepared = prepare(want.plan, want.command)
        except BaseException:
            if held is not None:
                held.close()
            raise
        return self._add(want, _Waiting(prepared, time.monotonic(), held), era)

    def _add(self, want: Want, waiting: _Waiting, era: int) -> bool:
        """Let it wait. False if it is thrown away: all was, while it was made, or others were quicker."""
        with self._lock:
            wanted = era == self._era and sum(map(len, self._waiting.values())) < self._limit
            if wanted:
                self._waiting.setdefault(want, []).append(waiting)
        if not wanted:
            waiting.throw_away()
        return wanted

    def _expire_later(self) -> None:
        with contextlib.suppress(RuntimeError):
            asyncio.get_running_loop().call_later(self._idle_s * 1.01, self.expire)

    def expire(self) -> None:
        """Throw away what has waited for too long."""
        oldest = time.monotonic() - self._idle_s
        with self._lock:
            thrown = [w for some in self._waiting.values() for w in some if w.since <= oldest]
            for want in list(self._waiting):
                self._waiting[want] = [w for w in self._waiting[want] if w.since > oldest]
                if not self._waiting[want]:
                    del self._waiting[want]
        for waiting in thrown:
            waiting.throw_away()

    def clear(self) -> tuple[Future[None], ...]:
        """Throw everything away, and forget what was asked for. The futures are done when nothing of it is left."""
        with self._lock:
            thrown = [waiting for some in self._waiting.values() for waiting in some]
            self._waiting.clear()
            self._seen.clear()
            self._era += 1
        return tuple(waiting.throw_away() for waiting in thrown)

    def waiting(self) -> tuple[Prepared, ...]:
        """The sandboxes that wait, of each kind the oldest first; for a look, since any may be taken meanwhile."""
        with self._lock:
            return tuple(waiting.prepared for some in self._waiting.values() for waiting in some)

    def __len__(self) -> int:
        """How many sandboxes wait."""
        with self._lock:
            return sum(map(len, self._waiting.values()))


def _discard_unwanted(making: Future[Prepared]) -> None:
    """Throw away what is made for somebody who does not wait for it any more."""
    if not making.cancelled() and making.exception() is None:
        discard(making.result())
