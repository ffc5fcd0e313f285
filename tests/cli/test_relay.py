"""The demo's network can be cut and mended."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator

import pytest
from ringfence_satellite.commands.demo.network import Relay


@pytest.fixture
def echo() -> Iterator[tuple[str, int]]:
    """A service that sends back what it gets."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        while True:
            try:
                visitor, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=answer, args=(visitor,), daemon=True).start()

    def answer(visitor: socket.socket) -> None:
        with visitor:
            while data := visitor.recv(1024):
                visitor.sendall(data)

    threading.Thread(target=serve, daemon=True).start()
    yield listener.getsockname()
    listener.shutdown(socket.SHUT_RDWR)
    listener.close()


def said_and_heard(port: int) -> bytes:
    with socket.create_connection(("127.0.0.1", port), timeout=10) as client:
        client.sendall(b"hello")
        return client.recv(1024)


def test_it_passes_on_until_cut_and_again_when_mended(echo: tuple[str, int]) -> None:
    relay = Relay(echo)
    client = socket.create_connection(("127.0.0.1", relay.port), timeout=10)
    client.sendall(b"hello")
    assert client.recv(1024) == b"hello"

    relay.cut()
    assert client.recv(1024) == b""
    with pytest.raises(OSError, match=r"refused|reset"):
        socket.create_connection(("127.0.0.1", relay.port), timeout=10)

    relay.mend()
    assert said_and_heard(relay.port) == b"hello"
    relay.close()
    client.close()


def test_nobody_else_gets_its_port_while_it_is_cut(echo: tuple[str, int]) -> None:
    relay = Relay(echo)
    relay.cut()
    with socket.socket() as stranger, pytest.raises(OSError, match="in use"):
        stranger.bind(("127.0.0.1", relay.port))
    relay.mend()
    assert said_and_heard(relay.port) == b"hello"
    relay.close()
    with socket.socket() as stranger:
        stranger.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        stranger.bind(("127.0.0.1", relay.port))
