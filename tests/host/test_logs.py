"""Logs as JSON: one object a line, no secret in it, and the id of the request that it belongs to."""

from __future__ import annotations

import io
import json
import logging
from typing import Any

import pytest
import structlog
from ringfence.http.request_ids import HEADER, request_id_of
from ringfence.process import logs
from ringfence.process.errors import UsageMistake
from ringfence.testing import RunHost, client

from tests.host.plugins import MadePlugin

SECRET = "S3cret-hunter2"


@pytest.fixture
def written(monkeypatch: pytest.MonkeyPatch) -> io.StringIO:
    """What is logged as JSON, as text."""
    monkeypatch.setenv("RINGFENCE_LOG_FORMAT", "json")
    logs.configure()
    (ours,) = logging.getLogger().handlers
    assert isinstance(ours, logging.StreamHandler)
    ours.setStream(stream := io.StringIO())
    return stream


def lines(stream: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_each_event_is_one_object_on_one_line(written: io.StringIO) -> None:
    structlog.get_logger("ringfence.probe").warning("two\nlines", run_id="7", seconds=1.5, names=["a", "b"])
    logging.getLogger("somebody.else").error("theirs %s", "too")
    own, theirs = lines(written)
    assert own.pop("timestamp").endswith("Z")
    assert own == {
        "event": "two\nlines",
        "level": "warning",
        "logger": "ringfence.probe",
        "run_id": "7",
        "seconds": 1.5,
        "names": ["a", "b"],
    }
    assert (theirs["event"], theirs["logger"], theirs["level"]) == ("theirs too", "somebody.else", "error")


def test_no_secret_is_in_it_and_it_stays_a_document(written: io.StringIO) -> None:
    log = structlog.get_logger("ringfence.probe")
    log.error("failed", error=f"DETAIL:  Key (name)=({SECRET}) already exists.", after=1)
    log.error("failed", url=f"postgresql://ringfence:{SECRET}@db/ringfence", after=2)
    log.error("failed", token=SECRET, api_key=SECRET, after=3)
    log.error("failed", nested={"password": SECRET, "list": [f"Bearer {SECRET}"]}, after=4)
    log.error("failed", value=ValueError(f"secrets_key={SECRET}"), after=5)
    try:
        raise ValueError(f"postgresql://u:{SECRET}@db/x")
    except ValueError:
        log.exception("failed", after=6)
    logging.getLogger("library").warning("GET /x?token=%s&a=1", SECRET)
    found = lines(written)
    assert [one.get("after") for one in found] == [1, 2, 3, 4, 5, 6, None]
    assert SECRET not in written.getvalue()
    assert "Traceback" in found[5]["exception"]


def test_a_format_that_is_none_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RINGFENCE_LOG_FORMAT", "xml")
    with pytest.raises(UsageMistake, match="RINGFENCE_LOG_FORMAT"):
        logs.configure()


@pytest.mark.parametrize("given", [None, "", "a" * 129, "a\nb", "-a", "ä", "a b", '{"a":1}'])
def test_an_id_that_is_not_well_formed_is_replaced(given: str | None) -> None:
    assert request_id_of(given) not in {given, request_id_of(given)}


async def test_a_request_keeps_its_id_in_the_answer_the_problem_and_the_log(run_host: RunHost) -> None:
    async def serve(context: Any) -> None:
        from fastapi import APIRouter

        router = APIRouter()

        @router.get("/told")
        async def told() -> dict[str, Any]:
            return dict(structlog.contextvars.get_contextvars())

        context.web.router(router)

    host = await run_host(plugins=[MadePlugin("shop", init=serve)])
    async with client(host) as http:
        told = await http.get("/api/shop/told", headers={HEADER: "trace-1.a"})
        assert (told.headers[HEADER], told.json()["request_id"]) == ("trace-1.a", "trace-1.a")
        missing = await http.get("/api/nowhere", headers={HEADER: "trace-2"})
        assert (missing.headers[HEADER], missing.json()["requestId"]) == ("trace-2", "trace-2")
        made = await http.get("/api/nowhere", headers={HEADER: "no good"})
        assert made.headers[HEADER] == made.json()["requestId"] != "no good"
        assert structlog.contextvars.get_contextvars().get("request_id") is None
