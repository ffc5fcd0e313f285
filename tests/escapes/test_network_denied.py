"""The network of the shipped default: none."""

from __future__ import annotations

import socket

import pytest

from tests.escapes.conftest import Supervisor


def test_there_is_only_a_loopback_of_its_own(supervisor: Supervisor) -> None:
    result = supervisor.run(
        "shell", "cut -d: -f1 /proc/net/dev | tail -n +3; cat /proc/net/route /proc/net/ipv6_route"
    )
    assert result.stdout.split("\n")[0].strip() == "lo"
    assert not [line for line in result.stdout.splitlines() if line.startswith(("eth", "en", "tap"))]


@pytest.mark.parametrize(
    "address", ["192.0.2.1", "169.254.169.254", "2001:db8::1", "fe80::1", "255.255.255.255"]
)
def test_no_address_is_reachable(supervisor: Supervisor, address: str) -> None:
    script = f"""
import socket
family = socket.AF_INET6 if ':' in {address!r} else socket.AF_INET
for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
    try:
        with socket.socket(family, kind) as s:
            s.settimeout(3)
            s.connect(({address!r}, 80))
            print('reached')
    except OSError as error:
        print(error.strerror)
"""
    assert "reached" not in supervisor.run("python", script).stdout


def test_the_hosts_loopback_is_not_the_scripts(supervisor: Supervisor) -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        port = listener.getsockname()[1]
        script = f"import socket; socket.create_connection(('127.0.0.1', {port}), 3); print('reached')"
        result = supervisor.run("python", script)
    assert result.stdout == ""
    assert "ConnectionRefusedError" in result.stderr


def test_its_own_loopback_works(supervisor: Supervisor) -> None:
    script = """
import socket
listener = socket.create_server(('127.0.0.1', 0))
socket.create_connection(listener.getsockname())
print('talks to itself')
"""
    assert supervisor.run("python", script).stdout == "talks to itself\n"


def test_raw_and_packet_sockets_cannot_be_made(supervisor: Supervisor) -> None:
    script = """
import socket
for arguments in ((socket.AF_INET, socket.SOCK_RAW, 1), (socket.AF_PACKET, socket.SOCK_RAW, 0)):
    try:
        socket.socket(*arguments)
        print('made')
    except OSError:
        print('refused')
"""
    assert supervisor.run("python", script).stdout.split() == ["refused"] * 2
