"""What runs of one loop listen to: each hears its own, in the turn in which it is ready."""

from __future__ import annotations

import asyncio
import os

import pytest
from ringfence.sandbox.launch.supervision.reactor import Reactor


async def test_what_is_ready_is_not_told_to_who_has_its_number_by_then() -> None:
    first: Reactor[None] = Reactor()
    second: Reactor[None] = Reactor()
    heard = []
    (ready, to_ready), (ended, to_ended), (silent, to_silent) = os.pipe(), os.pipe(), os.pipe()

    def on_ready() -> None:
        heard.append("ready")
        first.ignore(ready)
        first.ignore(ended)
        os.dup2(silent, ended)
        second.read(ended, lambda: heard.append("silent"))

    first.read(ready, on_ready)
    first.read(ended, lambda: heard.append("ended"))
    # Both in one turn, in this order.
    os.write(to_ready, b".")
    os.write(to_ended, b".")
    while not heard:
        await asyncio.sleep(0)
    assert heard == ["ready"]
    os.write(to_silent, b".")
    while len(heard) < 2:
        await asyncio.sleep(0)
    assert heard[:2] == ["ready", "silent"]
    second.let_go()
    first.let_go()
    for descriptor in (ready, to_ready, ended, to_ended, silent, to_silent):
        os.close(descriptor)


async def test_a_run_that_let_go_hears_nothing_and_others_go_on() -> None:
    gone: Reactor[None] = Reactor()
    stays: Reactor[None] = Reactor()
    heard = []
    ends = os.pipe(), os.pipe()
    gone.read(ends[0][0], lambda: heard.append("gone"))
    stays.read(ends[1][0], lambda: heard.append("stays"))
    gone.let_go()
    for _, writing in ends:
        os.write(writing, b".")
    while not heard:
        await asyncio.sleep(0)
    assert set(heard) == {"stays"}
    stays.let_go()
    for descriptor in (*ends[0], *ends[1]):
        os.close(descriptor)


async def test_who_is_cancelled_while_waiting_for_the_end_may_wait_again() -> None:
    reactor: Reactor[str] = Reactor()
    waiting = asyncio.create_task(reactor.until_ended())
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    asyncio.get_running_loop().call_soon(reactor.end, "over")
    await reactor.until_ended()
    reactor.end("too late")
    assert reactor.ended.result() == "over"
