"""Which server a TLS client greets: the name in its first message (SNI), read without any socket.

Threat: several names live at one address, and an address that was opened for one of them leads to the others.
Mechanism: the first message of a TLS client names the server in the clear (RFC 6066, RFC 8446). It is read whole, over
as many records as it comes in, and as strictly as a server reads it: what begins as such a message and cannot be read,
or names several servers, is told apart from what is no TLS at all.
Not covered: protocols that begin otherwise and turn to TLS later (STARTTLS, PostgreSQL), QUIC, a name that is hidden
(ECH) or said in a later message, and what is asked of a server after the greeting, such as the Host of an HTTP request.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

MOST_BYTES = 16_384
"""So much of a connection is looked at. A greeting with large keys has two or three thousand bytes."""

_HANDSHAKE, _CLIENT_HELLO = 22, 1
_RECORDS = range(20, 25)
"""What a record may hold. Servers pass over some, such as warnings, before the first message."""

_ALERT, _WARNING = 21, 1
_LAST_VERSION = 15
_MOST_RECORD = 16_384
_SERVER_NAME, _HOST_NAME = 0, 0
_MOST_NAME = 255


@dataclass(frozen=True, slots=True)
class Undecided:
    """More bytes are needed."""


@dataclass(frozen=True, slots=True)
class NotTls:
    """The connection begins with something else."""


@dataclass(frozen=True, slots=True)
class NoName:
    """A greeting that names no server."""


@dataclass(frozen=True, slots=True)
class ServerName:
    """A greeting of this server: in lower case, without a dot at its end, and in printable ASCII."""

    name: str


@dataclass(frozen=True, slots=True)
class Unreadable:
    """It begins as a greeting, and is malformed, too long, or names several servers: it may hide a name."""


Found = Undecided | NotTls | NoName | ServerName | Unreadable


class _MalformedError(ValueError):
    """It breaks the form of a greeting."""


class Greeting:
    """The beginning of a connection, as its client sends it. What was found once, stays."""

    def __init__(self) -> None:
        self._data = b""
        self._found: Found = Undecided()

    def feed(self, data: bytes) -> Found:
        """What is known with these bytes added, whatever they are."""
        if isinstance(self._found, Undecided):
            self._data = (self._data + data)[:MOST_BYTES]
            self._found = _read(self._data)
            if isinstance(self._found, Undecided) and len(self._data) == MOST_BYTES:
                self._found = Unreadable()
        return self._found


def _read(data: bytes) -> Found:
    """What the bytes from the start of a connection say."""
    # A record: its type, the version, whose first byte is 3 in all of them, and its length (RFC 8446, 5.1).
    if data and data[0] not in _RECORDS:
        return NotTls()
    if data[1:2] not in (b"", b"\3"):
        return _of_another_version(data)
    try:
        message = _message(data)
        return Undecided() if message is None else _server(message)
    except _MalformedError:
        return Unreadable()


def _of_another_version(data: bytes) -> Found:
    """What begins as a record of a version that there is not: some servers pass over that (Go's up to 15).

    Other protocols begin with such bytes, too, as with a length: only what is a greeting to such a server is one here.
    """
    version, length = data[1], data[3:5]
    if version > _LAST_VERSION or data[0] not in (_HANDSHAKE, _ALERT):
        return NotTls()
    # A greeting, or a warning that may come before it.
    begin = bytes([_CLIENT_HELLO]) if data[0] == _HANDSHAKE else bytes([_WARNING])
    if len(length) == 2 and not 0 < int.from_bytes(length) <= _MOST_RECORD:
        return NotTls()
    if not data[5:6]:
        return Undecided()
    return Unreadable() if data[5:6] == begin else NotTls()


def _message(data: bytes) -> bytes | None:
    """The body of the first message, joined from the records that it comes in; None while it is not all there.

    Raises:
        _MalformedError: if it is no greeting.
    """
    joined = b""
    while len(data) >= 5:
        kind, major, _, length = struct.unpack_from("!BBBH", data)
        if kind != _HANDSHAKE or major != 3 or not 0 < length <= _MOST_RECORD:
            raise _MalformedError
        joined += data[5 : 5 + length]
        if joined and joined[0] != _CLIENT_HELLO:
            raise _MalformedError
        if len(joined) >= 4 and len(joined) >= 4 + (size := int.from_bytes(joined[1:4])):
            return joined[4 : 4 + size]
        if len(data) < 5 + length:
            return None
        data = data[5 + length :]
    return None


def _server(message: bytes) -> NoName | ServerName:
    """Whom a greeting names.

    Raises:
        _MalformedError: if it cannot be read, or names several.
    """
    hello = _Reader(message)
    hello.take(2 + 32)
    for size_of_length in (1, 2, 1):
        # The session, the ciphers, the compressions.
        hello.vector(size_of_length)
    if hello.is_empty:
        return NoName()
    extensions = _Reader(hello.vector(2))
    hello.end()
    names: list[bytes] = []
    while not extensions.is_empty:
        kind = extensions.number(2)
        content = extensions.vector(2)
        if kind == _SERVER_NAME:
            names += _names(content)
    if len(names) > 1:
        raise _MalformedError
    return ServerName(_printable(names[0])) if names else NoName()


def _names(content: bytes) -> list[bytes]:
    """The names in the extension that names servers (RFC 6066, 3)."""
    outer = _Reader(content)
    listed = _Reader(outer.vector(2))
    outer.end()
    names = []
    while not listed.is_empty:
        if listed.number(1) != _HOST_NAME:
            raise _MalformedError
        names.append(listed.vector(2))
    if not names or not all(0 < len(name) <= _MOST_NAME for name in names):
        raise _MalformedError
    return names


def _printable(name: bytes) -> str:
    """A name in printable ASCII. An odd byte becomes what no allowed name has, so that it cannot become one."""
    text = "".join(chr(byte) if 0x20 < byte < 0x7F else f"\\{byte:03}" for byte in name)
    return text.lower().removesuffix(".")


class _Reader:
    """Takes bytes from the front.

    Raises:
        _MalformedError: in each method, if there are not so many.
    """

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._place = 0

    @property
    def is_empty(self) -> bool:
        return self._place == len(self._data)

    def take(self, count: int) -> bytes:
        taken = self._data[self._place : self._place + count]
        if len(taken) != count:
            raise _MalformedError
        self._place += count
        return taken

    def number(self, size: int) -> int:
        return int.from_bytes(self.take(size))

    def vector(self, size_of_length: int) -> bytes:
        return self.take(self.number(size_of_length))

    def end(self) -> None:
        if not self.is_empty:
            raise _MalformedError
