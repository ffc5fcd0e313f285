"""Memory that the kernel keeps for sockets and pipes, which no process maps: filled, hidden, and honestly used."""

from __future__ import annotations

import socket

import pytest
from ringfence.scripts import Stopped

from tests.escapes.conftest import Supervisor

POLICY = {"resources": {"memoryBytes": 64 * 1024**2, "maxOpenFiles": 4096}}

FILL = """
import array, ctypes, os, socket, struct, threading, time
def fill(end, piece=bytes(65536)):
    end.setblocking(False)
    try:
        while True:
            end.send(piece)
    except OSError:
        pass
def pipe():
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    try:
        while True:
            os.write(writing, bytes(65536))
    except OSError:
        return reading, writing
def in_processes(number, each):
    for _ in range(number):
        if os.fork() == 0:
            kept = each()
            time.sleep(1000)
    time.sleep(1000)
"""
TCP = """
def each():
    server = socket.create_server(('127.0.0.1', 0))
    kept = [server]
    for _ in range(30):
        kept.append(socket.create_connection(server.getsockname()))
        fill(kept[-1])
    return kept
in_processes(4, each)
"""
TCP_ACCEPTED = TCP.replace("fill(kept[-1])", "kept.append(server.accept()[0]); fill(kept[-1])")
TCP_WITHOUT_DESCRIPTORS = TCP.replace("fill(kept[-1])", "fill(kept[-1]); kept.pop().close()")
UDP = """
def each():
    kept = []
    for _ in range(300):
        kept.append(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
        kept[-1].bind(('127.0.0.1', 0))
        kept[-1].connect(kept[-1].getsockname())
        for _ in range(200):
            try:
                kept[-1].send(bytes(1400))
            except OSError:
                break
    return kept
in_processes(4, each)
"""
UNIX = """
def each():
    kept = []
    for _ in range(300):
        kept += socket.socketpair()
        fill(kept[-1])
    return kept
in_processes(4, each)
"""
UNIX_SENDER_CLOSED = UNIX.replace("fill(kept[-1])", "fill(kept[-1], b'x'); kept.pop().close()")
UNIX_IN_FLIGHT = """
def each():
    kept = []
    for _ in range(40):
        carrier = socket.socketpair()
        for _ in range(10):
            pair = socket.socketpair()
            fill(pair[0])
            socket.send_fds(carrier[0], [b'x'], [pair[0].fileno(), pair[1].fileno()])
            pair[0].close(), pair[1].close()
        kept.append(carrier)
    return kept
in_processes(1, each)
"""
PIPES = """
in_processes(8, lambda: [pipe() for _ in range(1500)])  # Small ones, when there are many (pipe(7)).
"""
PIPES_OF_THREADS = """
import sys
libc = ctypes.CDLL(None)
# CLONE_VM | CLONE_SIGHAND | CLONE_THREAD, without CLONE_FILES: its descriptors are copies, which it keeps when the
# first thread has closed its own.
stack = ctypes.create_string_buffer(1 << 20)
for number in range(8):
    kept = [pipe() for _ in range(1500)]
    top = ctypes.c_void_p(ctypes.addressof(stack) + (number + 1) * (1 << 16))
    assert libc.clone(libc.pause, top, 0x10900, None) > 0
    for pair in kept:
        os.close(pair[0]), os.close(pair[1])
time.sleep(1000)
"""
WAYS = {
    "TCP": TCP,
    "TCP, accepted": TCP_ACCEPTED,
    "TCP without descriptors": TCP_WITHOUT_DESCRIPTORS,
    "UDP": UDP,
    "unix": UNIX,
    "unix, sender closed": UNIX_SENDER_CLOSED,
    "unix, in flight": UNIX_IN_FLIGHT,
    "pipes": PIPES,
    "pipes of threads": PIPES_OF_THREADS,
}


@pytest.mark.parametrize("way", WAYS)
def test_what_is_queued_counts_as_memory(cold_supervisor: Supervisor, way: str) -> None:
    result = cold_supervisor.run("python", FILL + WAYS[way], policy=POLICY, timeout_ms=20_000)
    assert result.stopped is Stopped.MEMORY, (result.stopped, result.stderr)


HONEST = """
server = socket.create_server(('127.0.0.1', 0), backlog=400)
kept = [server]
for number in range(200):
    kept += (client := socket.create_connection(server.getsockname()), server.accept()[0], *socket.socketpair())
    client.send(b'hello')
    kept[-1].send(b'hello')
    reading, writing = os.pipe()
    os.write(writing, b'hello')
waiting = [socket.create_connection(server.getsockname()) for _ in range(50)]
time.sleep(0.5)
print('all fine')
"""


def test_hundreds_of_sockets_and_pipes_with_little_in_them_are_little(cold_supervisor: Supervisor) -> None:
    policy = {"resources": {"memoryBytes": 128 * 1024**2, "maxOpenFiles": 4096}}
    result = cold_supervisor.run("python", FILL + HONEST, policy=policy, timeout_ms=20_000)
    assert (result.stopped, result.stdout) == (None, "all fine\n"), result.stderr


SENT_TO_NOBODY = """
import socket, time
sent, kept = 0, []
for _ in range(60):
    kept.append(socket.create_connection(('localhost', context)))
    kept[-1].settimeout(0.05)
    left = 2 << 20
    try:
        while left > 0:
            left -= kept[-1].send(bytes(65536))
    except TimeoutError:
        pass
    sent += (2 << 20) - left
print(sent >> 20)
if sent >= 60 << 20:
    time.sleep(10)
"""


def test_what_nobody_takes_outside_waits_inside_where_it_counts(cold_supervisor: Supervisor) -> None:
    """The sockets outside are the host's, and so is their memory, of which no look at the run shows anything."""
    with socket.create_server(("127.0.0.1", 0), backlog=100) as server:
        port = server.getsockname()[1]
        policy = {"network": {"allow": [f"localhost:{port}"]}}
        result = cold_supervisor.run("python", SENT_TO_NOBODY, context=port, policy=policy)
    assert result.stopped is Stopped.MEMORY or int(result.stdout) < 60, (result.stdout, result.stderr)
