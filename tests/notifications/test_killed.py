"""An instance is killed between sending and recording: what was sent comes twice, and only that."""

from __future__ import annotations

import asyncio
import base64
import sys
from collections import Counter
from pathlib import Path

import pytest
from ringfence.jobs import worker

from tests.notifications.conftest import StartTelling
from tests.notifications.receivers import Inbox

pytestmark = pytest.mark.slow
HOUSES = ("home", "mill", "shed")


async def test_what_a_killed_instance_had_sent_is_sent_twice_and_all_else_once(
    start_telling: StartTelling,
    database_url: str,
    tmp_path: Path,
    web: Inbox,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("RINGFENCE_SECRETS_KEY", base64.b64encode(b"k" * 32).decode())
    for name, seconds in (("BEAT_SECONDS", 0.2), ("UNMARKED_SECONDS", 1.0)):
        monkeypatch.setattr(worker, name, seconds)
    telling = await start_telling()
    await telling.add("ops", web.address)
    telling.host._jobs.take_no_more()
    other = await asyncio.create_subprocess_exec(
        *(
            sys.executable,
            "-m",
            "tests.notifications.instance_program",
            database_url,
            str(tmp_path / "other"),
        ),
        cwd=Path(__file__).parents[2],
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        assert other.stdout is not None
        assert await other.stdout.readline() == b"ready\n"
        for house in HOUSES:
            await telling.open("gate", house)
        assert await other.stdout.readline() == b"sent\n"
    finally:
        other.kill()
        await other.wait()
    [first] = await web.wait_for(1)
    telling.host._jobs._takes_new = True
    # The message is lent to whoever sends it; the others do not wait for that.
    await web.wait_for(len(HOUSES))
    assert Counter(one["id"] for one in web.messages) == dict.fromkeys((one["id"] for one in web.messages), 1)
    await telling.execute("UPDATE notifications_messages SET claimed_until = clock_timestamp()")
    await telling.time_passes(200)
    sent = await telling.all_sent()
    counts = Counter(one["id"] for one in web.messages)
    assert len(counts) == len(HOUSES)
    assert {id: count for id, count in counts.items() if count != 1} == {first["id"]: 2}
    assert [one["title"] for one in sent if one["maybeTwice"]] == [first["title"]]
