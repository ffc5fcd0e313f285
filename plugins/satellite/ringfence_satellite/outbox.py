"""What waits to be sent on one connection: bounded, and of several waiting policies only the newest.

Pure. A satellite that reads slowly, or not at all, costs the core these few slots and nobody else anything.
"""

from __future__ import annotations

from collections import deque

from ringfence.web import TextMessage

MAX_MESSAGES = 64
MAX_BYTES = 16 * 1024 * 1024
"""How much may wait beside the policy: room for two of the largest frames."""


class Outbox:
    """The outgoing messages of one connection.

    Nothing leaves before `welcome`: a policy that is pushed while the connection is being let in waits, and
    is dropped if the welcome carries one that is as new. A waiting policy leaves before anything else: no
    run that was asked for earlier may start under an older one.
    """

    __slots__ = ("_bytes", "_messages", "_policy", "_revision", "_welcome", "_welcomed")

    def __init__(self) -> None:
        self._welcome: TextMessage | None = None
        self._welcomed = False
        self._policy: TextMessage | None = None
        self._revision = -1
        self._messages: deque[TextMessage] | None = None
        self._bytes = 0

    @property
    def revision(self) -> int:
        """The highest revision of the policy that was put in; -1 if none was."""
        return self._revision

    def welcome(self, message: TextMessage, revision: int | None) -> None:
        """Open the outbox with the `authenticated` frame, and the revision of the policy in it, if
        there is one.
        """
        self._welcome, self._welcomed = message, True
        if revision is not None and revision >= self._revision:
            self._revision, self._policy = revision, None

    def policy(self, message: TextMessage, revision: int) -> bool:
        """Have the policy at `revision` sent. False when one that is as new has been sent, or waits."""
        if revision <= self._revision:
            return False
        self._revision, self._policy = revision, message
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

    def peek(self) -> TextMessage | None:
        """What is to be sent next."""
        if not self._welcomed:
            return None
        return self._welcome or self._policy or (self._messages[0] if self._messages else None)

    def sent(self, message: TextMessage) -> TextMessage | None:
        """Note that `message`, got from `peek`, is on its way, and answer what is to be sent next. A newer policy
        that has since come is kept.
        """
        if message is self._welcome:
            self._welcome = None
        elif message is self._policy:
            self._policy = None
        elif self._messages and message is self._messages[0]:
            self._messages.popleft()
            self._bytes -= len(message.frame)
        return self._policy or (self._messages[0] if self._messages else None)
