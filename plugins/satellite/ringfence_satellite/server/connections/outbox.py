"""What waits to be sent on one connection: bounded, and of several waiting policies and assignments only the newest.

Pure. A satellite that reads slowly, or not at all, costs the host these few slots and nobody else anything.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from ringfence.web import TextMessage

from ringfence_satellite.protocol.assignments import Assigned

MAX_MESSAGES = 64
MAX_BYTES = 16 * 1024 * 1024
"""How much may wait beside the policy: room for two of the largest frames."""
MAX_PIECES = 2
"""How many pieces of packages may wait: a satellite asks for the next one when it has read one, which may be a moment
before that is noted here.
"""
MAX_OWED = 1024
"""How many answers may wait beside those messages: more than a satellite can ask for before it is too slow."""

Tell = Callable[[Assigned | None, Assigned], TextMessage]
"""Makes the message by which a peer that holds the first (None: nobody knows what) comes to hold the second."""


def tell_nothing(told: Assigned | None, wanted: Assigned) -> TextMessage:
    """The `Tell` of an outbox into which no assignments are put."""
    raise AssertionError(f"no assignments were expected: {told}, {wanted}")


class Outbox:
    """The outgoing messages of one connection.

    Nothing leaves before `welcome`: a policy that is pushed while the connection is being let in waits, and
    is dropped if the welcome carries one that is as new. A waiting policy leaves before anything else: no
    run that was asked for earlier may start under an older one.

    Of assignments it is noted what the satellite is to have and what it was told last; the message that makes the one
    of the other is made when its turn has come. So a satellite that reads slowly is told of many changes at once, and
    nothing is kept for it meanwhile. They leave before all but the policy, for they may end what else was asked for.

    Which packages it is to have leaves before its assignments, so that no run begins before it is known what it needs.
    Pieces of packages leave after all else, and there are few at a time: whoever fetches many of them is told of
    everything else in between.

    Answers to what the satellite asked are owed to it: other messages that wait take no room from them, for a satellite
    that gets no answer would wait for it, and say nothing more.
    """

    __slots__ = (
        "_as_of",
        "_bytes",
        "_messages",
        "_owed",
        "_owed_bytes",
        "_packages",
        "_pieces",
        "_policy",
        "_revision",
        "_tell",
        "_telling",
        "_told",
        "_wanted",
        "_welcome",
        "_welcomed",
    )

    def __init__(self, tell: Tell = tell_nothing) -> None:
        self._tell = tell
        self._wanted: Assigned | None = None
        self._as_of = -1
        self._told: Assigned | None = None
        self._telling: tuple[TextMessage, Assigned] | None = None
        self._welcome: TextMessage | None = None
        self._welcomed = False
        self._policy: TextMessage | None = None
        self._revision = -1
        self._messages: deque[TextMessage] | None = None
        self._bytes = 0
        self._owed: deque[TextMessage] | None = None
        self._owed_bytes = 0
        self._packages: TextMessage | None = None
        self._pieces: deque[TextMessage] | None = None

    @property
    def revision(self) -> int:
        """The highest revision of the policy that was put in; -1 if none was."""
        return self._revision

    def welcome(self, message: TextMessage, revision: int | None) -> None:
        """Open the outbox with the `authenticated` frame, and the revision of the policy in it, if there is one."""
        self._welcome, self._welcomed = message, True
        if revision is not None and revision >= self._revision:
            self._revision, self._policy = revision, None

    def policy(self, message: TextMessage, revision: int) -> bool:
        """Have the policy at `revision` sent. False when one that is as new has been sent, or waits."""
        if revision <= self._revision:
            return False
        self._revision, self._policy = revision, message
        return True

    def assign(self, wanted: Assigned, as_of: int) -> Assigned:
        """Have the satellite told of what it is to do, as it was read at turn `as_of`.

        Answers what it will have been told of: that, or what was read later.
        """
        if as_of > self._as_of:
            self._wanted, self._as_of = wanted, as_of
        return self._wanted or wanted

    def told(self, assigned: Assigned | None) -> None:
        """Note what the satellite has of its assignments; None if nobody knows, so that it is told all of them."""
        self._told, self._telling = assigned, None

    def packages(self, message: TextMessage | None) -> None:
        """Have the satellite told which packages it is to have; None if it is told by the welcome."""
        self._packages = message

    @property
    def has_pieces(self) -> bool:
        """Whether no more pieces of packages may wait."""
        return self._pieces is not None and len(self._pieces) >= MAX_PIECES

    def piece(self, message: TextMessage) -> bool:
        """Have a piece of a package sent. False when too many wait already."""
        if self.has_pieces:
            return False
        if self._pieces is None:
            self._pieces = deque()
        self._pieces.append(message)
        return True

    def put(self, message: TextMessage) -> bool:
        """Have any other message sent, in order. False when there is no room for it."""
        waiting = self._messages
        if waiting is None:
            waiting = self._messages = deque()
        if len(waiting) >= MAX_MESSAGES or self._bytes + len(message.frame) > MAX_BYTES:
            return False
        waiting.append(message)
        self._bytes += len(message.frame)
        return True

    def owe(self, message: TextMessage) -> bool:
        """Have the answer to something that the satellite has asked sent. False when too many wait already."""
        owed = self._owed
        if owed is None:
            owed = self._owed = deque()
        if len(owed) >= MAX_OWED or self._owed_bytes + len(message.frame) > MAX_BYTES:
            return False
        owed.append(message)
        self._owed_bytes += len(message.frame)
        return True

    def peek(self) -> TextMessage | None:
        """What is to be sent next."""
        return (self._welcome or self._next()) if self._welcomed else None

    def sent(self, message: TextMessage) -> TextMessage | None:
        """Note that `message`, got from `peek`, is on its way, and answer what is to be sent next.

        A newer policy that has come since is kept.
        """
        if message is self._welcome:
            self._welcome = None
        elif message is self._policy:
            self._policy = None
        elif message is self._packages:
            self._packages = None
        elif self._pieces and message is self._pieces[0]:
            self._pieces.popleft()
        elif self._telling is not None and message is self._telling[0]:
            self.told(self._telling[1])
        elif self._owed and message is self._owed[0]:
            self._owed.popleft()
            self._owed_bytes -= len(message.frame)
        elif self._messages and message is self._messages[0]:
            self._messages.popleft()
            self._bytes -= len(message.frame)
        return self._next()

    def _next(self) -> TextMessage | None:
        if self._policy is not None:
            return self._policy
        if self._packages is not None:
            return self._packages
        if self._wanted is not None and self._wanted != self._told:
            return self._assignments(self._wanted)
        waiting = self._owed or self._messages
        waiting = waiting or self._pieces
        return waiting[0] if waiting else None

    def _assignments(self, wanted: Assigned) -> TextMessage:
        if self._telling is None or self._telling[1] != wanted:
            self._telling = self._tell(self._told, wanted), wanted
        return self._telling[0]
