"""What a script writes is kept for those who follow its run, also what it writes just before it ends."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from uuid import UUID, uuid4

import pytest
from ringfence_automations.steps import live_output
from ringfence_automations.steps.live_output import LiveOutput


class Book:
    """Takes down what is written, once it may."""

    def __init__(self) -> None:
        self.begun = asyncio.Event()
        self.may = asyncio.Event()
        self.written: list[tuple[str, str]] = []

    async def write(self, run: UUID, path: str, attempt: int, pieces: Sequence[tuple[str, str]]) -> None:
        self.begun.set()
        await self.may.wait()
        self.written += pieces


async def test_what_is_being_written_when_the_script_ends_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live_output, "COMPANY_SECONDS", 0.0)
    book = Book()
    output = LiveOutput(uuid4(), "look", 1, book.write)
    output.hear("stdout", "one")
    await book.begun.wait()
    output.hear("stderr", "two")
    closing = asyncio.create_task(output.close())
    await asyncio.sleep(0)
    book.may.set()
    await closing
    assert book.written == [("stdout", "one"), ("stderr", "two")]


async def test_what_was_written_last_does_not_wait_for_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live_output, "COMPANY_SECONDS", 600.0)
    book = Book()
    book.may.set()
    output = LiveOutput(uuid4(), "look", 1, book.write)
    output.hear("stdout", "one")
    async with asyncio.timeout(60):
        await output.close()
    assert book.written == [("stdout", "one")]
