"""Every frame that there is, with every field of it: what must not be taken is refused with a reason, or left out."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, get_args

import pytest
from ringfence.bounded import bounded_json
from ringfence_satellite.protocol import (
    CloseCode,
    Frame,
    Heartbeat,
    HostFrame,
    ProtocolError,
    RunFinished,
    SatelliteFrame,
    parse_from_host,
    parse_from_satellite,
)
from websockets.exceptions import ConnectionClosed

from tests.boundaries.hostile import Attempt, Walk, text_of
from tests.health_checks.conftest import CHECKS, definition
from tests.satellite.instances import SATELLITES, Instance, Peer
from tests.waiting import in_time

FROM_CORE: tuple[type[Frame], ...] = get_args(HostFrame)
FROM_SATELLITE: tuple[type[Frame], ...] = get_args(SatelliteFrame)
REFUSALS = {CloseCode.UNREADABLE, CloseCode.TOO_LARGE, CloseCode.AUTH_FAILED}
PRINTED = {("result", "result"), ("run_output", "text")}
"""Where there is what a program has printed, of which each character that cannot be stored is replaced."""
EXTRA = ("exitCode", "stdout", "value", "sandbox", "durationMs", "unknown")
"""Fields of a run's result, which stand beside those of its frame."""


def frames(kind: type[Frame], **given: Any) -> Iterator[Attempt]:
    """A frame of this kind with each of its fields replaced by what must not be there."""
    schema = kind.model_json_schema(by_alias=True)
    walk = Walk(schema.get("$defs", {}))
    whole = {**walk.example(schema), **given, "type": kind.TYPE}
    extra: dict[str, Any] = (
        {name: {} for name in EXTRA if name not in schema["properties"]} if kind is RunFinished else {}
    )
    for one in walk.attempts({**schema, "properties": {**schema["properties"], **extra}}, whole):
        if one.path:
            yield one


@pytest.mark.parametrize("kind", FROM_SATELLITE + FROM_CORE, ids=lambda kind: kind.TYPE)
def test_what_was_taken_of_a_frame_can_be_stored(kind: type[Frame]) -> None:
    parse = parse_from_satellite if kind in FROM_SATELLITE else parse_from_host
    tried, reasons = 0, list[str]()
    for attempt in frames(kind):
        tried += 1
        try:
            frame = parse(text_of(attempt.document))
        except ProtocolError as error:
            reasons.append(str(error))
            continue
        assert frame is not None
        bounded_json(frame.model_dump(mode="json"))
        if attempt.path == "traceparent":
            assert attempt.refused is False or getattr(frame, "traceparent", None) is None
        elif isinstance(frame, RunFinished):
            assert frame.error or frame.model_extra is not None
        elif attempt.refused:
            assert (kind.TYPE, attempt.path.split(".")[0]) in PRINTED, (
                f"{attempt.path} took {text_of(attempt.document)[:200]}"
            )
    assert tried > 10
    assert all(reasons)
    bounded_json(reasons, max_bytes=1000 * len(reasons) + 2)


@pytest.mark.parametrize(
    "kind",
    # What every frame's type takes is proven above; that nothing gets past it takes seconds for each.
    [kind if kind is Heartbeat else pytest.param(kind, marks=pytest.mark.slow) for kind in FROM_SATELLITE],
    ids=lambda kind: kind.TYPE,
)
@pytest.mark.usefixtures("no_fault_is_logged")
async def test_no_frame_of_one_satellite_harms_the_host_or_another(
    instance: Instance, kind: type[Frame]
) -> None:
    rogue, honest = await instance.register("rogue", tags=["all"]), await instance.register("honest")
    made = await instance.api.post(CHECKS, json=definition(runsOn={"tags": ["all"]}, intervalSeconds=3600))
    check = made.json()["id"]
    given = {
        "result": {"configId": check, "resultId": "r"},
        "strategy_error": {"strategyId": check},
        "request_run_secrets": {"configId": check},
        "authenticate": {"clientId": rogue.id, "token": rogue.token},
    }.get(kind.TYPE, {})
    said = [text_of(one.document) for one in frames(kind, **given)]
    async with instance.connected(honest) as other:
        while said:
            async with instance.peer(None if kind.TYPE == "authenticate" else rogue) as peer:
                said = said[await taken_in(peer, said[:100]) :]
        await other.say(Heartbeat(version="still here"))
        await instance.until(honest, lambda shown: shown["version"] == "still here")
    for path in (CHECKS, f"{CHECKS}/{check}/results?limit=1000", SATELLITES, "/api/host/events", "/readyz"):
        answer = await instance.api.get(path)
        assert answer.status_code == 200, answer.text


async def taken_in(peer: Peer, texts: list[str]) -> int:
    """Say one after the other until the host has closed the connection; answers how many it has taken or refused."""
    for count, text in enumerate(texts):
        try:
            await peer.say(text)
            await peer.say(
                json.dumps({"type": "request_run_secrets", "requestId": str(count), "configId": "-"})
            )
            await heard(peer, str(count))
        except ConnectionClosed:
            assert peer.socket.close_code in REFUSALS, (
                peer.socket.close_code,
                peer.socket.close_reason,
                text[:300],
            )
            assert peer.socket.close_reason
            return count + 1
    return len(texts)


async def heard(peer: Peer, request_id: str) -> None:
    async with in_time("the host answers"):
        while json.loads(await peer.socket.recv()).get("requestId") != request_id:
            pass
