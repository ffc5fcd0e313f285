"""One satellite's connection, as this instance holds it: what is known of it, and what waits for it.

Its state is changed by named steps alone, each of which says what has happened or what is to be told:

    claimed → admitted → welcomed → over          (`end` asks for the last step from anywhere)

- Claimed (when it is made): somebody says that it is this satellite. Nothing is sent, and nothing is believed.
- `admitted`, once: the token was right. What was said at the sign-in is known from here on, and does not change.
- `welcome`, once: what has waited since it was admitted may leave, the welcome first.
- `end`, of which the first one holds: nothing more is written, and whoever reads the socket is woken.
- `ended`, whatever the reason was: from here on `end` does nothing.

It never waits for its satellite: telling puts a message into a bounded outbox and writes what the socket
takes at once. Only for a peer that is not keeping up (or a server without direct writes) a task is made
that waits, and it ends when the outbox is empty.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Iterator, Mapping, Set
from dataclasses import dataclass
from uuid import UUID

from ringfence.token_bucket import TokenBucket
from ringfence.web import TextMessage, direct_writes
from starlette.websockets import WebSocket, WebSocketDisconnect

from ringfence_satellite.protocol import (
    MAX_FRAME_BURST,
    MAX_FRAMES_PER_SECOND,
    REQUEST_ASSIGNMENTS_SECONDS,
    CloseCode,
    RefreshScriptPackages,
    RequestScriptPackageBlob,
    RequestScriptPackageManifest,
    RunAccepted,
    RunFinished,
    SandboxPolicyApplied,
    SatelliteFrame,
    frames_per_second,
)
from ringfence_satellite.protocol.assignments import Assigned
from ringfence_satellite.server.connections.expected_runs import ExpectedRuns
from ringfence_satellite.server.connections.outbox import Outbox, Tell, tell_nothing
from ringfence_satellite.server.connections.traffic import Traffic
from ringfence_satellite.server.profile import Profile
from ringfence_satellite.service import AssignedSatellite

MAX_RUN_SETS = 64
"""How many sets of runs that were asked for a satellite is told to have."""


@dataclass(frozen=True, slots=True)
class SignIn:
    """What is known of a satellite once its token was right: from the database, and from its `authenticate`.

    `process` is the agent's, if it keeps runs beyond a connection, and `runs` those that it has. `names_policy`: it
    says by revision and digest which policy it holds. `understands`: what it can be asked for beyond the first release.
    """

    profile: Profile
    offline_after_seconds: float
    process: str | None = None
    runs: tuple[str, ...] = ()
    names_policy: bool = False
    understands: frozenset[str] = frozenset()


class Connection:
    """A socket of a satellite that has said who it is. Compared and hashed by identity."""

    __slots__ = (
        "_allowance",
        "_applied_revision",
        "_asked_for_all_at",
        "_direct",
        "_ending",
        "_heard_at",
        "_identity",
        "_is_announced",
        "_is_busy",
        "_is_over",
        "_outbox",
        "_packages",
        "_profile",
        "_run_sets",
        "_runs",
        "_scope",
        "_sets",
        "_sign_in",
        "_stuck_since",
        "_traffic",
        "_websocket",
        "_writer",
        "id",
        "satellite",
    )

    def __init__(
        self,
        websocket: WebSocket,
        scope: asyncio.Timeout,
        *,
        satellite: UUID,
        id: UUID,
        tell: Tell = tell_nothing,
        traffic: Traffic | None = None,
    ) -> None:
        self.satellite = satellite
        self.id = id
        self._websocket = websocket
        self._direct = direct_writes(websocket)
        self._scope = scope
        self._traffic = traffic or Traffic()
        self._writer: asyncio.Task[None] | None = None
        self._stuck_since: float | None = None
        self._outbox = Outbox(tell)
        self._sign_in: SignIn | None = None
        self._profile: Profile | None = None
        self._identity = AssignedSatellite(satellite, frozenset())
        self._runs = ExpectedRuns()
        self._packages: Mapping[str, str] | None = None
        self._sets: frozenset[str] = frozenset()
        self._run_sets: dict[str, None] = {}
        self._is_announced = False
        self._ending: tuple[CloseCode, str] | None = None
        self._is_over = False
        self._heard_at = time.monotonic()
        self._is_busy = False
        self._applied_revision = -1
        self._asked_for_all_at = float("-inf")
        self._allowance = TokenBucket(MAX_FRAME_BURST, MAX_FRAMES_PER_SECOND, self._heard_at)

    # What is known of it ----------------------------------------------------------------------------------

    @property
    def is_admitted(self) -> bool:
        """Whether its token was right; it stays true when the connection ends."""
        return self._sign_in is not None

    @property
    def ending(self) -> tuple[CloseCode, str] | None:
        """The code and the reason with which somebody wants it closed."""
        return self._ending

    @property
    def identity(self) -> AssignedSatellite:
        """The satellite as its assignments depend on it."""
        return self._identity

    @property
    def process(self) -> str | None:
        """The agent's process, if it keeps runs beyond this connection."""
        return None if self._sign_in is None else self._sign_in.process

    @property
    def understands(self) -> frozenset[str]:
        """What the agent can be asked for that one of the first release cannot."""
        return frozenset() if self._sign_in is None else self._sign_in.understands

    @property
    def runs(self) -> ExpectedRuns:
        """The runs of which an answer is expected."""
        return self._runs

    @property
    def packages(self) -> Mapping[str, str] | None:
        """The sets of packages that the satellite was told of, and their locks; None if it was not told yet."""
        return self._packages

    @property
    def sets(self) -> Set[str]:
        """The sets that its assignments name, and the runs that were asked for here."""
        return self._sets | self._run_sets.keys()

    @property
    def awaits_piece(self) -> bool:
        """Whether it has not read the pieces of packages that it has asked for."""
        return self._outbox.has_pieces

    def may_fetch(self, lock: str) -> bool:
        """Whether it was told to have the packages of this lock."""
        return self._packages is not None and lock in self._packages.values()

    @property
    def ends_runs(self) -> bool:
        """Whether runs would end with this connection, because its agent does not keep them."""
        return self.process is None and bool(self._runs)

    @property
    def offline_after_seconds(self) -> float:
        """How long the satellite may be silent."""
        return 0.0 if self._sign_in is None else self._sign_in.offline_after_seconds

    @property
    def names_policy(self) -> bool:
        """Whether the satellite says by revision and digest which policy it holds."""
        return self._sign_in is not None and self._sign_in.names_policy

    @property
    def told_revision(self) -> int:
        """The highest revision of the policy that the satellite is told; -1 if there was none yet."""
        return self._outbox.revision

    @property
    def heard_at(self) -> float:
        """When the satellite was heard last (monotonic)."""
        return self._heard_at

    @property
    def is_busy(self) -> bool:
        """Whether a frame of the satellite is being acted on, so that nobody listens to it."""
        return self._is_busy

    @property
    def stuck_since(self) -> float | None:
        """Since when the satellite has left unread what it was sent (monotonic); None if it keeps up."""
        return self._stuck_since

    # Its way in, and its end ------------------------------------------------------------------------------

    def admitted(self, sign_in: SignIn) -> None:
        """Note that the token was right. What was changed of the satellite since its token was read is kept."""
        if self._sign_in is not None:
            raise RuntimeError("a connection is admitted once")
        self._sign_in = sign_in
        self._runs = ExpectedRuns(sign_in.runs)
        self._describe(sign_in.profile if self._profile is None else self._profile.over(sign_in.profile))

    def changed(self, profile: Profile) -> bool:
        """Note that the satellite is described so now. Answers whether what it is told to do may depend on that."""
        was = self._identity
        self._describe(profile.over(self._profile))
        return self.is_admitted and was != self._identity

    def announced(self, arrival: UUID) -> None:
        """Note that the event log tells of a connection of this satellite, here or elsewhere.

        If the log has told of this one before, the other one is newer, and this one ends. If the log has yet to tell
        of it, it is the newer one itself.
        """
        if arrival == self.id:
            self._is_announced = True
        elif self._is_announced:
            self.end(CloseCode.REPLACED, "the same satellite has connected to another instance")

    def end(self, code: CloseCode, reason: str) -> None:
        """Have the connection closed with this code and reason.

        The first one that is given holds; one that has ended by itself is left alone.
        """
        if self._ending is None and not self._is_over:
            self._ending = (code, reason)
            expire(self._scope)

    def ended(self) -> None:
        """Note that its work has ended: whoever wants it ended from here on finds that it is."""
        self._is_over = True

    # What it is told --------------------------------------------------------------------------------------

    def welcome(self, message: TextMessage, *, revision: int | None, holds: Assigned | None) -> None:
        """Have the satellite told that it is let in, and from here on whatever else there is.

        `revision` is the policy's in the message, if it is there. `holds` is what the satellite has of its assignments
        when it has read the message; None if nobody knows, so that it is told all of them.
        """
        self._outbox.told(holds)
        self._outbox.welcome(message, revision)
        self.flush()

    def tell_policy(self, message: TextMessage, revision: int) -> None:
        """Have the satellite told of a policy, unless it has been told of one that is as new."""
        if self._outbox.policy(message, revision):
            self.flush()

    def names_sets(self, sets: frozenset[str]) -> None:
        """Note which sets of packages its assignments name."""
        self._sets = sets

    def runs_with(self, set: str) -> None:
        """Note that a run with this set is asked for; of many such sets the last ones count."""
        self._run_sets.pop(set, None)
        self._run_sets[set] = None
        while len(self._run_sets) > MAX_RUN_SETS:
            del self._run_sets[next(iter(self._run_sets))]

    def holds_packages(self, sets: Mapping[str, str] | None) -> None:
        """Note which packages the satellite is told of by its welcome, which must come next."""
        self._packages = sets
        self._outbox.packages(None)

    def tell_packages(self, sets: Mapping[str, str]) -> None:
        """Have the satellite told which packages it is to have."""
        self._packages = sets
        self._outbox.packages(TextMessage(RefreshScriptPackages.of(sets).encode()))
        self.flush()

    def tell_piece(self, message: TextMessage) -> None:
        """Have the satellite told a piece of a package, unless too many wait."""
        if self._outbox.piece(message):
            self.flush()
        else:
            self._traffic.no_room()

    def assign(self, wanted: Assigned, as_of: int) -> Assigned:
        """Have the satellite told of what it is to do, unless it is told of what was read later.

        Answers what it is told, and lets it say as much as that makes it say.
        """
        assigned = self._outbox.assign(wanted, as_of)
        self._allowance.pace(frames_per_second(assigned.runs_per_second), time.monotonic())
        self.flush()
        return assigned

    def assign_anew(self) -> bool:
        """Have the satellite told all of its assignments again.

        That may be megabytes: False, and nothing is told, if it was asked for too often.
        """
        now = time.monotonic()
        if now - self._asked_for_all_at < REQUEST_ASSIGNMENTS_SECONDS / 2:
            return False
        self._asked_for_all_at = now
        self._outbox.told(None)
        self.flush()
        return True

    def send(self, message: TextMessage) -> bool:
        """Have the satellite told something else. False when too much waits for it already."""
        if not self._outbox.put(message):
            self._traffic.no_room()
            return False
        self.flush()
        return True

    def answer(self, message: TextMessage) -> None:
        """Have the satellite told what it has asked for: now, or when there is room.

        One that asks again and again and does not read the answers is ended.
        """
        if self._outbox.owe(message):
            self.flush()
        else:
            self.end(CloseCode.TOO_SLOW, "the satellite does not read the answers to what it asks")

    # What it says -----------------------------------------------------------------------------------------

    def heard(self, frame: SatelliteFrame | None) -> bool:
        """Note that a frame has come; None is one of a type that is not known here.

        False when it is one more than the rate limit allows. The one answer to something that the satellite was told
        is free, for its pace is ours.
        """
        self._heard_at = time.monotonic()
        return self._is_asked_for(frame) or self._allowance.take(self._heard_at)

    @contextlib.contextmanager
    def busy(self) -> Iterator[None]:
        """While this block acts on a frame, nobody listens to the satellite: it is not silent then."""
        self._is_busy = True
        try:
            yield
        finally:
            self._is_busy = False
            self._heard_at = time.monotonic()

    def policy_applied(self, revision: int) -> bool:
        """Note which revision governs the satellite's next run. False if that is lower than what it said before."""
        if revision < self._applied_revision:
            return False
        self._applied_revision = revision
        return True

    def _describe(self, profile: Profile) -> None:
        self._profile, self._identity = profile, profile.of(self.satellite)

    def _is_asked_for(self, frame: SatelliteFrame | None) -> bool:
        match frame:
            case RequestScriptPackageManifest() | RequestScriptPackageBlob():
                # Each is asked for when the one before was read: its pace is ours.
                return not self.awaits_piece and self.may_fetch(frame.lock)
            case RunFinished():
                return frame.run_id in self._runs
            case RunAccepted():
                return self._runs.awaits_acceptance(frame.run_id)
            case SandboxPolicyApplied():
                return self._applied_revision < frame.revision <= self.told_revision
            case _:
                return False

    # How it is written ------------------------------------------------------------------------------------

    def flush(self) -> None:
        """Write what can be written without waiting, and see to the rest."""
        if self._writer is not None or self._ending is not None or self._is_over:
            return
        message = self._outbox.peek()
        while message is not None:
            if self._direct is None or not self._direct.write_now(message):
                self._stuck_since = time.monotonic()
                self._writer = asyncio.create_task(
                    self._write_patiently(), name=f"writer of {self.satellite}"
                )
                return
            self._traffic.sent(len(message.frame))
            message = self._outbox.sent(message)

    async def stop_writing(self) -> None:
        """Give up on what still waits; called when the connection has ended."""
        if self._writer is not None:
            self._writer.cancel()
            await asyncio.wait([self._writer])

    async def _write_patiently(self) -> None:
        try:
            while (message := self._outbox.peek()) is not None:
                await self._websocket.send_text(message.text)
                self._stuck_since = time.monotonic()
                self._traffic.sent(len(message.frame))
                self._outbox.sent(message)
        except (WebSocketDisconnect, RuntimeError):
            return  # The reader of this connection has found out too, and ends it.
        finally:
            self._writer = None
            self._stuck_since = None


def expire(scope: asyncio.Timeout) -> None:
    """Wake the task that reads a socket within `scope`, wherever it waits.

    There is none of the ambiguity of a cancellation: it finds a `TimeoutError`.
    """
    if not scope.expired():
        scope.reschedule(asyncio.get_running_loop().time())
