"""What runs write is seen while they run: in pieces, within bounds, by whoever may see the run."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Any

import pytest
from ringfence_satellite.agent.delivering.result_delivery import Pace
from ringfence_satellite.agent.running import live_output
from ringfence_satellite.agent.running.live_output import LiveOutput, LiveOutputs
from ringfence_satellite.protocol import (
    MAX_OUTPUT_CHARACTERS,
    MAX_OUTPUT_PIECE,
    RunAccepted,
    RunOutput,
    parse_from_satellite,
)
from ringfence_satellite.server.runs import output
from sqlalchemy import text

from tests.primitives import requires
from tests.satellite.instances import RUNS, Instance
from tests.satellite.test_agent_process import agent, end_sleep
from tests.satellite.test_runs import asked, cancel, keeper
from tests.satellite.test_runs_of_agents import command
from tests.shared_hosts import SHARED
from tests.waiting import PATIENCE_SECONDS, in_time


def told(live: LiveOutput) -> list[tuple[str, str]]:
    pieces: list[tuple[str, str]] = []
    while (frame := live.next()) is not None:
        assert frame.sequence == len(pieces)
        pieces.append((frame.stream, frame.text))
    return pieces


def test_pieces_of_one_stream_are_told_together_and_in_their_order() -> None:
    live = LiveOutput("r")
    for piece in (b"a", b"b"):
        assert live.hear("stdout", piece)
    live.hear("stderr", b"oh")
    live.hear("stdout", b"c\n")
    assert told(live) == [("stdout", "ab"), ("stderr", "oh"), ("stdout", "c\n")]
    assert live.next() is None


def test_a_character_that_comes_in_parts_is_told_whole_and_what_is_none_is_replaced() -> None:
    live = LiveOutput("r")
    euro = "€".encode()
    assert not live.hear("stdout", euro[:1])
    live.hear("stderr", b"\xff\0")
    live.hear("stdout", euro[1:])
    assert told(live) == [("stderr", "\ufffd\ufffd"), ("stdout", "€")]


@pytest.mark.parametrize("character", ["x", "\x01", "😀"])
def test_a_piece_fits_its_frame_and_all_pieces_have_a_bound(character: str) -> None:
    live = LiveOutput("r" * 64)
    for _ in range(5):
        live.hear("stdout", (character * 100_000).encode())
    total = 0
    while (frame := live.next()) is not None:
        assert parse_from_satellite(frame.encode()) == frame
        assert len(frame.text) <= MAX_OUTPUT_PIECE
        total += len(frame.text)
    assert total == MAX_OUTPUT_CHARACTERS
    assert not live.hear("stdout", b"more")


async def test_each_run_has_its_turn_and_what_is_over_is_told_no_more(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(live_output, "COMPANY_SECONDS", 0.0)
    outputs, sent = LiveOutputs(), asyncio.Queue[RunOutput]()

    async def send(frame: str) -> bool:
        read = parse_from_satellite(frame)
        assert isinstance(read, RunOutput)
        sent.put_nowait(read)
        return True

    chatty, quiet, over = (outputs.listen(name) for name in ("chatty", "quiet", "over"))
    chatty("stdout", b"x" * MAX_OUTPUT_PIECE * 3)
    quiet("stderr", b"hello")
    over("stdout", b"never told")
    outputs.over("over")
    telling = asyncio.create_task(outputs.tell(send, pace=Pace(1e6, 1e6)))
    async with in_time("all is told"):
        first = [(await sent.get()).run_id for _ in range(4)]
        assert first == ["chatty", "quiet", "chatty", "chatty"]
        quiet("stdout", b"again")
        assert (await sent.get()).sequence == 1
    telling.cancel()


@SHARED
async def test_output_is_shown_through_any_instance_and_gives_way_to_the_result(
    instance: Instance, other: Instance
) -> None:
    one, two = instance, other
    satellite = await one.register()
    async with keeper(two, satellite) as peer:
        run = await asked(one, satellite)
        id = await peer.accept()
        for sequence, each in enumerate((one, two)):
            path, query = f"{RUNS}/{id}", {"wait": 60, "outputAfter": sequence - 1}
            looking = asyncio.create_task(each.api.get(path, params=query, timeout=90))
            await peer.say(RunOutput(run_id=id, stream="stdout", sequence=sequence, text=f"{sequence}\0\n"))
            shown = (await looking).json()
            assert shown["state"] != "ended"
            assert shown["output"] == [
                {"sequence": sequence, "stream": "stdout", "text": f"{sequence}\ufffd\n"}
            ]
        assert len((await one.api.get(f"{RUNS}/{id}")).json()["output"]) == 2
        await peer.finish(id)
        ended = await one.ended(run)
        assert (ended["output"], ended["result"]["stdout"]) == ([], "hi\n")
        # What is told later is not taken.
        await peer.say(RunOutput(run_id=id, stream="stdout", sequence=2, text="late"))
        await peer.idle(two, satellite)
    async with one.host.runtime.database.sessions() as session:
        assert (await session.execute(text("SELECT count(*) FROM satellite_run_output"))).scalar_one() == 0
        logged = await session.execute(text("SELECT count(*) FROM events WHERE hook LIKE '%output%'"))
        assert logged.scalar_one() == 0


@SHARED
async def test_what_a_cancelled_run_had_written_stays(instance: Instance) -> None:
    satellite = await instance.register()
    async with keeper(instance, satellite) as peer:
        run = await asked(instance, satellite)
        id = await peer.accept()
        await peer.say(RunOutput(run_id=id, stream="stderr", sequence=0, text="so far"))
        await instance.run_until(run, lambda one: bool(one["output"]))
        await cancel(instance, run, status=202)
        await peer.hear("cancel_run")
        await peer.finish(id, error="ended", cause="cancelled")
        ended = await instance.ended(run)
    assert (ended["outcome"], [one["text"] for one in ended["output"]]) == ("cancelled", ["so far"])


@SHARED
async def test_output_has_a_bound_and_is_taken_of_ones_own_runs_alone(
    instance: Instance, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(output, "MAX_OUTPUT_CHARACTERS", 10_000)
    mine, other = await instance.register("mine"), await instance.register("other")
    run = await asked(instance, other)
    async with keeper(instance, mine, runs=(run["id"],)) as rogue, keeper(instance, other) as honest:
        id = await honest.accept()
        await rogue.say(RunOutput(run_id=id, stream="stdout", sequence=0, text="forged"))
        await rogue.say(RunAccepted(run_id=id))
        await rogue.idle(instance, mine)
        for sequence, shown_then in enumerate((1, 2, 3, 3, 3)):
            await honest.say(RunOutput(run_id=id, stream="stdout", sequence=sequence, text="x" * 4000))
            await until_pieces(instance, run, shown_then)
        await honest.finish(id, error="ended", cause="cancelled")
        shown = await instance.ended(run)
    # The bound is looked at before a piece is written, not in the middle of it.
    assert [one["text"] for one in shown["output"]] == ["x" * 4000] * 3


@SHARED
async def test_output_that_comes_at_once_is_not_more_than_what_comes_in_its_time(
    instance: Instance, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(output, "MAX_OUTPUT_CHARACTERS", 10_000)
    satellite = await instance.register()
    run = await asked(instance, satellite)
    async with keeper(instance, satellite) as peer:
        id = await peer.accept()
        for sequence in range(20):
            await peer.say(RunOutput(run_id=id, stream="stdout", sequence=sequence, text="x" * 4000))
        await instance.run_until(
            run, lambda one: sum(len(piece["text"]) for piece in one["output"]) >= 10_000
        )
        await peer.finish(id, error="ended", cause="cancelled")
        shown = await instance.ended(run)
    # The bound is reached by one batch, or by one before it and another.
    assert len(shown["output"]) <= 6


@SHARED
async def test_what_a_satellite_says_of_a_run_that_cannot_be_is_dropped(instance: Instance) -> None:
    mine = await instance.register()
    async with keeper(instance, mine, runs=("no id",)) as rogue:
        await rogue.say(RunOutput(run_id="no id", stream="stdout", sequence=0, text="forged"))
        await rogue.say(RunAccepted(run_id="no id"))
        assert not await rogue.finish("no id")
        await rogue.idle(instance, mine)


async def until_pieces(instance: Instance, run: dict[str, Any], count: int) -> None:
    await instance.run_until(run, lambda shown: len(shown.get("output", ())) == count)


@pytest.mark.slow
@requires("user namespaces")
@SHARED
async def test_a_command_shows_what_its_run_writes_while_it_runs(instance: Instance, tmp_path: Path) -> None:
    satellite, mark = await instance.register(), f"48{os.getpid()}.5"
    script = f"echo first; echo second >&2; sleep {mark}; echo third"
    async with agent(instance, satellite, tmp_path), command(instance, "-c", script) as process:
        assert process.stdout is not None
        async with in_time("the first line is shown"):
            assert await process.stdout.readline() == b"first\n"
        runs = (await instance.api.get(RUNS)).json()["runs"]
        assert [run["state"] for run in runs] == ["running"]
        await end_sleep(mark)
        out, err = await asyncio.wait_for(process.communicate(), PATIENCE_SECONDS)
    assert (process.returncode, out) == (0, b"third\n")
    assert err.decode().count("second\n") == 1
