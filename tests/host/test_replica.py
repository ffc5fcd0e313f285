"""A copy that is believed while the log is followed: what it answers, what it reads, and what it forgets."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest
from ringfence.fleet.replica import Replica

from tests.waiting import in_time


class Table:
    """What there is to copy, read when a test lets it be read."""

    def __init__(self) -> None:
        self.value = 1
        self.live = True
        self.reads = 0
        self.fails: Exception | None = None
        self.open = asyncio.Event()
        self.open.set()
        self.replica: Replica[int] = Replica(self.load, lambda: self.live)

    async def load(self) -> int:
        self.reads += 1
        read = self.value
        await self.open.wait()
        if self.fails is not None:
            raise self.fails
        return read


@pytest.fixture
async def table() -> Table:
    return Table()


async def reading(table: Table, times: int) -> None:
    async with in_time(f"read {times} times"):
        while table.reads < times:
            await asyncio.sleep(0)


async def test_it_is_read_once_while_the_log_is_followed(table: Table) -> None:
    assert table.replica.known() is None
    assert [await table.replica.current() for _ in range(3)] == [1, 1, 1]
    assert (table.reads, table.replica.known()) == (1, 1)


async def test_nothing_copied_is_believed_while_the_log_is_not_followed(table: Table) -> None:
    await table.replica.current()
    table.live, table.value = False, 2
    assert table.replica.known() is None
    assert [await table.replica.current(), await table.replica.current()] == [2, 2]
    assert table.reads == 3


async def test_those_who_ask_during_a_read_share_the_next_one(table: Table) -> None:
    """And not that read: it may have been done before what they know of."""
    table.live = False
    table.open.clear()
    first = asyncio.create_task(table.replica.current())
    await reading(table, 1)
    table.value = 2
    later = [asyncio.create_task(table.replica.current()) for _ in range(20)]
    await asyncio.sleep(0)
    table.open.set()
    assert await first == 1
    assert await asyncio.gather(*later) == [2] * 20
    assert table.reads == 2


async def test_those_who_share_a_read_share_its_failure_and_the_next_one_reads_again(table: Table) -> None:
    table.fails = OSError("away")
    table.open.clear()
    asked = [asyncio.create_task(table.replica.current()) for _ in range(5)]
    await reading(table, 1)
    table.open.set()
    assert [str(each) for each in await asyncio.gather(*asked, return_exceptions=True)] == ["away"] * 5
    assert table.reads == 2
    table.fails = None
    assert await table.replica.current() == 1


async def test_a_read_that_is_given_up_leaves_the_others_to_read(table: Table) -> None:
    table.open.clear()
    first = asyncio.create_task(table.replica.current())
    await reading(table, 1)
    second, third = (asyncio.create_task(table.replica.current()) for _ in range(2))
    await asyncio.sleep(0)
    first.cancel()
    await reading(table, 2)
    second.cancel()
    table.open.set()
    assert await third == 1


async def test_what_is_being_read_when_the_log_is_followed_again_is_not_kept(table: Table) -> None:
    table.open.clear()
    asked = asyncio.create_task(table.replica.current())
    await reading(table, 1)
    table.value = 2
    table.replica.forget()
    table.open.set()
    assert await asked == 1
    assert table.replica.known() is None
    assert await table.replica.current() == 2


async def test_a_change_waits_for_a_read_that_is_older(table: Table) -> None:
    table.open.clear()
    asked = asyncio.create_task(table.replica.current())
    await reading(table, 1)

    async def add(copy: int | None) -> int | None:
        return None if copy is None else copy + 10

    changing = asyncio.create_task(table.replica.change(add))
    table.open.set()
    await asyncio.gather(asked, changing)
    assert table.replica.known() == 11


@pytest.mark.parametrize(("order", "expected"), [((3, 2), 3), ((2, 3), 3)])
async def test_of_two_the_newer_is_kept_where_that_can_be_told(order: tuple[int, int], expected: int) -> None:
    async def load() -> int:
        return order[0]

    newer: Callable[[int, int], int] = max
    replica = Replica(load, lambda: True, newer=newer)
    await replica.current()
    replica.keep(order[1])
    assert replica.known() == expected


async def test_a_forgotten_copy_still_says_what_was_known_last_and_is_not_believed(table: Table) -> None:
    await table.replica.current()
    table.replica.forget()
    seen: list[int | None] = []

    async def note(copy: int | None) -> int | None:
        seen.append(copy)
        return copy

    await table.replica.change(note)
    assert (seen, table.replica.known()) == ([1], None)


async def test_what_was_kept_before_it_was_forgotten_is_newer_than_nothing() -> None:
    """A database that was set back has lower numbers again."""

    async def load() -> int:
        return 1

    replica = Replica(load, lambda: True, newer=max)
    replica.keep(9)
    replica.forget()
    assert await replica.current() == 1
    assert replica.known() == 1
