"""Packets between the host and the spawner, and the descriptors that come with them."""

from __future__ import annotations

import array
import socket

MAX_REQUEST = 256 * 1024
MAX_DESCRIPTORS = 64


def receive(end: socket.socket, size: int, most: int) -> tuple[bytes, list[int]]:
    """One packet and the descriptors with it, none of which a child inherits by accident.

    (`socket.recv_fds` does not pass its flags on in all of the Pythons that we run on, so the descriptors
    it returns are
    inheritable: every child would get the supervisor's sockets.)
    """
    descriptors = array.array("i")
    space = socket.CMSG_SPACE(most * descriptors.itemsize)
    data, ancillary, _, _ = end.recvmsg(size, space, socket.MSG_CMSG_CLOEXEC)
    for level, kind, content in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            descriptors.frombytes(content[: len(content) - len(content) % descriptors.itemsize])
    return data, list(descriptors)


def send(answer: socket.socket, text: str, *descriptors: int) -> bool:
    """Send one reply; False if that is not possible, which is no reason to stop serving the others."""
    try:
        socket.send_fds(answer, [text.encode()], list(descriptors))
    except OSError:
        return False
    return True
