"""What systemd is told, by a socket of the test's own in its place."""

from __future__ import annotations

import asyncio
import os
import socket
from pathlib import Path

import pytest
from ringfence.process.service_manager import ServiceManager


@pytest.fixture
def manager_socket(tmp_path: Path) -> socket.socket:
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    listener.bind(str(tmp_path / "notify"))
    listener.settimeout(20)
    return listener


async def heard(listener: socket.socket) -> list[str]:
    return (await asyncio.to_thread(listener.recv, 4096)).decode().splitlines()


async def test_it_is_told_of_readiness_life_and_the_end(manager_socket: socket.socket) -> None:
    environ = {"NOTIFY_SOCKET": manager_socket.getsockname(), "WATCHDOG_USEC": "30000", "OTHER": "stays"}
    with manager_socket:
        async with ServiceManager(environ).told_of_life("Serving at http://x"):
            assert await heard(manager_socket) == ["READY=1", "STATUS=Serving at http://x"]
            for _ in range(3):
                assert await heard(manager_socket) == ["WATCHDOG=1"]
        rest = await heard(manager_socket)
        while rest == ["WATCHDOG=1"]:
            rest = await heard(manager_socket)
        assert rest == ["STOPPING=1", "STATUS=Stopping"]
    assert environ == {"OTHER": "stays"}, "children are not to speak for this process"


async def test_an_abstract_address_is_understood() -> None:
    name = f"ringfence-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(f"\0{name}")
        listener.settimeout(20)
        ServiceManager({"NOTIFY_SOCKET": f"@{name}"}).tell("READY=1")
        assert await heard(listener) == ["READY=1"]


async def test_nobody_who_asks_is_nobody_who_is_told() -> None:
    async with ServiceManager({}).told_of_life("x"):
        pass
    async with ServiceManager({"NOTIFY_SOCKET": "/nowhere", "WATCHDOG_USEC": "junk"}).told_of_life("x"):
        pass


def test_a_watchdog_of_another_process_is_none_of_ours() -> None:
    environ = {"WATCHDOG_USEC": "1000000", "WATCHDOG_PID": "1"}
    assert ServiceManager(environ).watchdog_seconds == 0.0
