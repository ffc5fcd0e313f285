"""The messages that tell satellites of their assignments: made once, and shared by all that are to have the same."""

from __future__ import annotations

from collections import OrderedDict

from ringfence.web import TextMessage

from ringfence_satellite.protocol import AssignmentsChanged, ConfigUpdated
from ringfence_satellite.protocol.assignments import Assigned, difference

MAX_KEPT_BYTES = 16 * 1024 * 1024


class AssignmentMessages:
    """Makes the messages, and keeps the newest of them: a change concerns many satellites in the same moment."""

    def __init__(self) -> None:
        self._kept: OrderedDict[tuple[str | None, str], TextMessage] = OrderedDict()
        self._bytes = 0

    def whole(self, told: Assigned | None, wanted: Assigned) -> TextMessage:
        """All of what is wanted, whatever was told before: for those that do not understand differences."""
        del told
        key = (None, wanted.digest)
        return self._found(key) or self._keep(key, TextMessage(ConfigUpdated.of(wanted).encode()))

    def difference(self, told: Assigned | None, wanted: Assigned) -> TextMessage:
        """What has changed; all of it where nobody knows what was told."""
        if told is None:
            return self.whole(told, wanted)
        key = (told.digest, wanted.digest)
        return self._found(key) or self._keep(
            key, TextMessage(AssignmentsChanged.of(difference(told, wanted)).encode())
        )

    def _found(self, key: tuple[str | None, str]) -> TextMessage | None:
        message = self._kept.get(key)
        if message is not None:
            self._kept.move_to_end(key)
        return message

    def _keep(self, key: tuple[str | None, str], message: TextMessage) -> TextMessage:
        self._kept[key] = message
        self._bytes += len(message.frame)
        while self._bytes > MAX_KEPT_BYTES:
            self._bytes -= len(self._kept.popitem(last=False)[1].frame)
        return message
