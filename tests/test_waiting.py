"""A test that waits in vain says for what, and what there was instead."""

from __future__ import annotations

import asyncio
import subprocess
import sys

import pytest

from tests.waiting import in_time, next_line, until, until_it, wait_until


async def test_what_does_not_come_is_told_with_what_is_there() -> None:
    heard = [1, 2]
    with pytest.raises(AssertionError, match=r"not within 0\.02 s: .*heard == \[3\].*; heard = \[1, 2\]"):
        await until(lambda: heard == [3], seconds=0.02)
    with pytest.raises(AssertionError, match=r"not within 0\.02 s: a third one"):
        wait_until(lambda: len(heard) > 2, "a third one", seconds=0.02)


async def test_what_is_not_there_yet_is_waited_for() -> None:
    heard: list[int] = []
    asyncio.get_running_loop().call_later(0.02, heard.append, 7)
    assert await until(lambda: heard[-1]) == 7
    assert wait_until(lambda: heard[-1] == 7)


async def test_an_answer_that_has_to_be_waited_for_is_told_as_well() -> None:
    async def ask() -> list[int]:
        return []

    with pytest.raises(AssertionError, match=r"not within 0\.05 s: some rows; the last answer was \[\]"):
        await until_it(ask, "some rows", seconds=0.05)


async def test_a_timeout_of_what_is_waited_for_is_its_own() -> None:
    with pytest.raises(AssertionError, match=r"not within 0\.02 s: the end of time"):
        async with in_time("the end of time", seconds=0.02):
            await asyncio.Event().wait()
    with pytest.raises(TimeoutError, match="its own"):
        async with in_time("another"):
            raise TimeoutError("its own")


def test_a_process_that_says_nothing_does_not_hold_a_test_up() -> None:
    program = "import sys; print('here', flush=True); sys.stdin.read()"
    with subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            assert next_line(process.stdout, "that it is here") == "here\n"
            with pytest.raises(AssertionError, match=r"nothing was said within 0\.05 s: something more"):
                next_line(process.stdout, "something more", seconds=0.05)
        finally:
            process.kill()
