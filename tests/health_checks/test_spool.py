"""Results on disk: there until they are delivered, no more than fit, and never half a one."""

from __future__ import annotations

import asyncio
import errno
import os
import threading
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from ringfence.testing import eventually
from ringfence_satellite.agent.delivering.result_delivery import WINDOW, Pace, deliver
from ringfence_satellite.agent.delivering.spool import Spool, SpoolError
from ringfence_satellite.protocol import frames_per_second
from structlog.testing import capture_logs


async def filled(directory: Path, count: int, **bounds: int) -> Spool:
    spool = Spool(directory, **bounds)
    for number in range(count):
        await spool.add(f"r{number}", f'{{"n": {number}}}')
    return spool


async def test_what_waits_survives_a_restart_in_its_order(tmp_path: Path) -> None:
    (await filled(tmp_path, 12)).close()
    again = Spool(tmp_path)
    assert again.waiting() == tuple(f"r{number}" for number in range(12))
    assert await again.read("r3") == '{"n": 3}'
    again.settle("r0")
    await again.add("later", "{}")
    again.close()
    assert Spool(tmp_path).waiting() == (*(f"r{number}" for number in range(1, 12)), "later")


@pytest.mark.parametrize("bounds", [{"max_results": 3}, {"max_bytes": 24}])
async def test_when_it_is_full_the_oldest_are_dropped_and_counted(
    tmp_path: Path, bounds: dict[str, int]
) -> None:
    with capture_logs() as logs:
        spool = await filled(tmp_path, 5, **bounds)
    assert spool.waiting() == ("r2", "r3", "r4")
    assert spool.dropped == 2
    assert [line["dropped_so_far"] for line in logs if "buffer" in line["event"]] == [1, 2]
    assert len(list(tmp_path.glob("*.json"))) == 3


async def test_half_a_result_is_never_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spool = await filled(tmp_path, 1)

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with capture_logs() as logs:
        await spool.add("lost", "{}")
    assert spool.waiting() == ("r0",)
    assert spool.dropped == 1
    assert logs[-1]["error"] == "No space left on device"
    (tmp_path / f"{9:020d}-cut.draft").write_text('{"n"')
    spool.close()
    assert Spool(tmp_path).waiting() == ("r0",)
    assert not list(tmp_path.glob("*.draft"))


async def test_a_result_whose_check_is_taken_away_while_it_is_written_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spool = Spool(tmp_path)
    begun, may_end = threading.Event(), threading.Event()
    synchronise = os.fsync

    def slow(descriptor: int) -> None:
        begun.set()
        may_end.wait(60.0)
        synchronise(descriptor)

    monkeypatch.setattr(os, "fsync", slow)
    adding = asyncio.create_task(spool.add("late", "{}"))
    assert await asyncio.to_thread(begun.wait, 60.0)
    adding.cancel()
    with pytest.raises(asyncio.CancelledError):
        await adding
    spool.changed.clear()
    may_end.set()
    await asyncio.wait_for(spool.changed.wait(), 60.0)
    assert spool.waiting() == ("late",)
    assert await spool.read("late") == "{}"


async def test_a_directory_in_use_and_one_that_cannot_be_made_are_refused(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "a")
    with pytest.raises(SpoolError, match="in use by another agent"):
        Spool(tmp_path / "a")
    spool.close()
    Spool(tmp_path / "a").close()
    (tmp_path / "file").write_text("")
    with pytest.raises(SpoolError, match="--state-dir"):
        Spool(tmp_path / "file" / "b")


async def test_a_few_are_sent_at_a_time_and_each_once_per_connection(tmp_path: Path) -> None:
    spool = await filled(tmp_path, WINDOW + 3)
    sent: list[str] = []

    async def send(frame: str) -> bool:
        sent.append(frame)
        return True

    task = asyncio.create_task(deliver(spool, send, acknowledged=True))
    try:
        await eventually(_async(lambda: len(sent) == WINDOW))
        spool.changed.set()
        await spool.add("newest", "{}")
        assert len(sent) == WINDOW
        spool.settle("r0")
        spool.settle("r1")
        await eventually(_async(lambda: len(sent) == WINDOW + 2))
        for result_id in spool.waiting():
            spool.settle(result_id)
        await spool.add("last", "{}")
        await eventually(_async(lambda: sent[-1] == "{}"))
    finally:
        task.cancel()
    assert len(sent) == len(set(sent))


async def test_a_core_that_acknowledges_nothing_has_what_was_sent(tmp_path: Path) -> None:
    spool = await filled(tmp_path, 3)

    async def send(_: str) -> bool:
        return True

    task = asyncio.create_task(deliver(spool, send, acknowledged=False))
    await eventually(_async(lambda: not len(spool)))
    task.cancel()


async def test_what_a_broken_connection_was_given_waits_for_the_next(tmp_path: Path) -> None:
    spool = await filled(tmp_path, 3)

    async def broken(_: str) -> bool:
        return False

    await deliver(spool, broken, acknowledged=False)
    assert len(spool) == 3


def test_the_pace_lets_a_burst_through_and_then_holds_back() -> None:
    now = 0.0
    pace = Pace(per_second=10.0, burst=3.0, clock=lambda: now)
    assert [pace.delay() for _ in range(5)] == pytest.approx([0.0, 0.0, 0.0, 0.1, 0.2])
    now = 100.0
    assert pace.delay() == 0.0


def test_the_pace_follows_what_is_due() -> None:
    now = 0.0
    pace = Pace(per_second=10.0, burst=1.0, clock=lambda: now)
    pace.follow(100.0)
    assert [pace.delay() for _ in range(3)] == pytest.approx([0.0, 1 / 160, 2 / 160])
    assert pace.delay() < 1 / frames_per_second(0)
    pace.follow(0.0)
    now = 100.0
    assert [pace.delay() for _ in range(3)] == pytest.approx([0.0, 0.1, 0.2])


def _async(check: Callable[[], object]) -> Callable[[], Awaitable[bool]]:
    async def answer() -> bool:
        return bool(check())

    return answer
