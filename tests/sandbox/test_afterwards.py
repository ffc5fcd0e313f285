"""What is done a moment after a run is done by one thread for many, and by others if that is held up."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator

import pytest
from ringfence.sandbox.afterwards import MANY, Afterwards
from ringfence.sandbox.workers import Workers

from tests.waiting import wait_until


@pytest.fixture
def workers() -> Iterator[Workers]:
    workers = Workers(4, "test")
    yield workers
    workers._executor.shutdown(cancel_futures=True)


def test_what_cannot_be_done_yet_is_tried_again_until_it_can(workers: Workers) -> None:
    attempts: list[str] = []

    def attempt(thing: str) -> bool:
        attempts.append(thing)
        return attempts.count(thing) == 3

    afterwards = Afterwards(workers, 0.001, attempt)
    for thing in ("one", "two"):
        afterwards.add(thing)
    wait_until(lambda: not len(afterwards), "both to be done")
    assert (attempts.count("one"), attempts.count("two")) == (3, 3)

    afterwards.add("three")
    wait_until(lambda: not len(afterwards), "what comes later to be done as well")
    assert attempts.count("three") == 3


def test_no_thread_is_woken_for_what_comes_soon_after(
    workers: Workers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ringfence.sandbox.afterwards.LINGERS", sys.maxsize)
    woken: list[object] = []
    submit = workers.submit

    def wake(work: Callable[[], None]) -> None:
        woken.append(work)
        submit(work)

    monkeypatch.setattr(workers, "submit", wake)
    afterwards = Afterwards[int](workers, 0.001, lambda _: True)
    for thing in range(3):
        afterwards.add(thing)
        wait_until(lambda: not len(afterwards), "it to be done")
    assert len(woken) == 1

    monkeypatch.setattr("ringfence.sandbox.afterwards.LINGERS", 1)
    wait_until(lambda: not afterwards._is_awake, "the thread to go")
    afterwards.add(3)
    wait_until(lambda: not len(afterwards), "it to be done")
    assert len(woken) == 2


def test_one_thing_that_takes_long_does_not_hold_up_all_others(workers: Workers) -> None:
    held, done = threading.Event(), []

    def attempt(thing: int) -> bool:
        if thing == 0:
            held.wait()
        done.append(thing)
        return True

    afterwards = Afterwards(workers, 0.001, attempt)
    afterwards.add(0)
    try:
        wait_until(lambda: not afterwards._things, "the first to be taken")
        for thing in range(1, MANY + 1):
            afterwards.add(thing)
        wait_until(lambda: len(done) == MANY, "the others to be done")
        assert len(afterwards) == 1
    finally:
        held.set()


def test_what_comes_when_no_thread_can_be_started_any_more_is_left_and_no_fault(workers: Workers) -> None:
    workers._executor.shutdown()
    afterwards = Afterwards[int](workers, 0.001, lambda _: True)
    afterwards.add(1)
    assert len(afterwards) == 1
