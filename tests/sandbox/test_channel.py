"""The channel to a run, where the kernel refuses the descriptors that are sent along, and where it does not."""

from __future__ import annotations

import contextlib
import os
import socket
import struct
import threading
from collections.abc import Iterator

import pytest
from ringfence.sandbox.launch import channel as channels
from ringfence.sandbox.launch.channel import Channel

from tests.waiting import wait_until

NO_OPTION = 1000


def can_refuse() -> bool:
    one, other = socket.socketpair()
    with one, other, contextlib.suppress(OSError):
        one.setsockopt(socket.SOL_SOCKET, channels.SO_PASSRIGHTS, 0)
        return True
    return False


@pytest.fixture(params=[channels.SO_PASSRIGHTS, NO_OPTION], ids=["as it is", "older kernel"])
def ends(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> Iterator[tuple[Channel, socket.socket]]:
    monkeypatch.setattr(channels, "SO_PASSRIGHTS", request.param)
    ours, theirs = socket.socketpair()
    with theirs:
        yield Channel(ours), theirs


@contextlib.contextmanager
def lingering(end: socket.socket) -> Iterator[None]:
    """Send along the last descriptor of a socket that waits with its close for what nobody reads."""
    with (
        socket.create_server(("127.0.0.1", 0)) as server,
        socket.create_connection(server.getsockname()) as full,
        server.accept()[0],
    ):
        full.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            while True:
                full.send(bytes(65536))
        with contextlib.suppress(PermissionError):
            socket.send_fds(end, [b"x"], [full.fileno()])
            full.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 600))
            full.close()
        yield


def is_over(end: socket.socket) -> bool:
    end.setblocking(False)
    try:
        return end.recv(1) == b""
    except BlockingIOError:
        return False


def test_it_says_and_hears(ends: tuple[Channel, socket.socket]) -> None:
    ours, theirs = ends
    ours.send(b"go")
    theirs.send(b"value")
    assert (theirs.recv(10), ours.recv(3), ours.recv(10)) == (b"go", b"val", b"ue")
    with pytest.raises(BlockingIOError):
        ours.recv(10)
    ours.close()
    assert wait_until(lambda: is_over(theirs), "the end")
    ours.close()


def test_no_descriptor_stays(ends: tuple[Channel, socket.socket]) -> None:
    ours, theirs = ends
    before = len(os.listdir("/proc/self/fd"))
    with contextlib.suppress(PermissionError):
        for _ in range(3):
            socket.send_fds(theirs, [b"x"], [0, 0])
    with contextlib.suppress(BlockingIOError):
        while ours.recv(100):
            pass
    wait_until(lambda: len(os.listdir("/proc/self/fd")) <= before, "those that came to be closed")
    ours.close()


def test_nobody_waits_for_what_lingers(ends: tuple[Channel, socket.socket]) -> None:
    """Sent, received and left behind: each would take ten minutes to be closed."""
    ours, theirs = ends
    for left_behind in (False, True):
        with lingering(theirs):
            if left_behind:
                ours.close()
            else:
                with contextlib.suppress(BlockingIOError):
                    ours.recv(100)


@pytest.mark.skipif(not can_refuse(), reason="the kernel is older than 6.16")
def test_who_sends_a_descriptor_is_refused_where_the_kernel_can() -> None:
    ours, theirs = socket.socketpair()
    with theirs:
        channel = Channel(ours)
        with pytest.raises(PermissionError):
            socket.send_fds(theirs, [b"x"], [0])
        theirs.send(b"y")
        assert channel.recv(10) == b"y"
        channel.close()


def closing() -> list[threading.Thread]:
    return [one for one in threading.enumerate() if one.name == "ringfence-close"]


def test_what_lingers_keeps_a_thread_where_the_kernel_lets_it_in(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(channels, "SO_PASSRIGHTS", NO_OPTION)
    ours, theirs = socket.socketpair()
    with theirs:
        channel = Channel(ours)
        with lingering(theirs):
            assert channel.recv(10) == b"x"
            (kept,) = wait_until(closing, "the thread that closes it")
            kept.join(0.2)
            assert kept.is_alive()
        kept.join()  # once the other end has gone
        channel.close()
