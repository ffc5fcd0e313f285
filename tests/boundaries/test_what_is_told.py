"""No secret, script or parameter in a log: neither by those who tell of an error, nor past the edge."""

from __future__ import annotations

import asyncio
import io
import logging

import psycopg
import pytest
import structlog
from pydantic import BaseModel, ValidationError
from ringfence.process import logs
from ringfence.redaction import describe, redacted
from ringfence.testing import RunHost
from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError

from tests.satellite.instances import Instance

SECRET = "S3cret-hunter2"


@pytest.mark.parametrize(
    "line",
    [
        f"http://user:{SECRET}@proxy:8888 isn't a valid proxy",
        f"user:{SECRET}@host:8888 isn't a valid proxy: scheme isn't supported",
        f"InvalidProxy: socks5h://u:{SECRET}@[::1]:1080",
        f"http://user:{SECRET}/with@odd@host/path",
        f"user:{SECRET}@host",
        f"postgresql+psycopg://ringfence:{SECRET}@db/ringfence?sslmode=require",
        f"GET /x?token={SECRET}&a=1",
        f"wss://core/api/ws?access_token={SECRET}",
        f"Authorization: Bearer {SECRET}",
        f"'authorization': 'Basic {SECRET}'",
        f"rft_{SECRET}",
        f"POST /api/automations/hooks/rfh_{SECRET}",
        f"RINGFENCE_SECRETS_KEY={SECRET}",
        f'{{"password": "{SECRET}"}}',
        f"[SQL: INSERT INTO t VALUES (%(a)s)]\n[parameters: {{'a': 'echo {SECRET} [1] ]'}}]\n(Background on this error",
        f"[parameters: ('echo', '{SECRET}')]",
        f"null value in column\nDETAIL:  Failing row contains (1, {SECRET}).",
        f'invalid input syntax for type json\\nDETAIL:  Token "{SECRET}" is invalid.\\nCONTEXT:  JSON data, line 1',
        f"  | DETAIL:  Key (name)=({SECRET}) already exists.",
        f"Input should be 3 [type=x, input_value='echo {SECRET}', input_type=str]",
    ],
)
def test_what_looks_like_a_secret_is_taken_out(line: str) -> None:
    assert SECRET not in redacted(line)


@pytest.mark.parametrize(
    "line",
    [
        "the core closed the connection: 4401 unknown satellite, or wrong token",
        "wss://core.example.org:8443/api/ws/satellite does not answer",
        "no token to use at http://127.0.0.1:8484",
        "started at 12:00:01, 3 satellites: a, b and c",
        'OperationalError: connection to server at "127.0.0.1", port 5432 failed',
        "mail root@localhost",
    ],
)
def test_what_is_no_secret_stays(line: str) -> None:
    assert redacted(line) == line


class _Model(BaseModel):
    number: int


def test_a_model_that_refuses_is_told_without_what_it_was_given() -> None:
    with pytest.raises(ValidationError) as caught:
        _Model.model_validate({"number": SECRET})
    assert describe(caught.value).startswith("ValidationError: number: must be a whole number")
    assert SECRET not in describe(caught.value)


STATEMENTS = [
    "INSERT INTO health_checks_checks (id, name, definition) VALUES (gen_random_uuid(), 'n', CAST(:x AS jsonb))",
    "INSERT INTO health_checks_checks (id, name) VALUES (gen_random_uuid(), :x)",
    "SELECT CAST(:x AS int)",
    "SELECT CAST(:x AS jsonb)",
    "INSERT INTO api_tokens (id, name, digest, rules) SELECT gen_random_uuid(), name, digest, rules FROM api_tokens, "
    "(SELECT :x)",
]


@pytest.fixture
def logged() -> io.StringIO:
    """The log as the commands write it."""
    root = logging.getLogger()
    before = root.handlers[:]
    logs.configure()
    (ours,) = root.handlers
    assert isinstance(ours, logging.StreamHandler)
    ours.setStream(stream := io.StringIO())
    root.handlers[:] = [*before, ours]
    return stream


async def test_an_error_of_the_database_is_told_without_what_was_written(
    instance: Instance, logged: io.StringIO
) -> None:
    for statement in STATEMENTS:
        with pytest.raises(SQLAlchemyError) as caught:
            async with instance.host.runtime.database.sessions.begin() as session:
                await session.execute(text(statement), {"x": f"echo {SECRET}"})
        assert SECRET not in describe(caught.value)
        assert len(describe(caught.value)) > len("IntegrityError: ")
        before = len(logged.getvalue())
        structlog.get_logger("ringfence.test").error("failed", error=str(caught.value), exc_info=caught.value)
        logging.getLogger("a.library").error("it says %s", caught.value, exc_info=caught.value)
        told = logged.getvalue()[before:]
        assert "Traceback" in told, statement
        assert "psycopg" in told
        assert SECRET not in told


async def test_an_error_past_the_engine_is_told_without_what_was_written(
    instance: Instance, logged: io.StringIO
) -> None:
    """Appends go past SQLAlchemy's machinery, and so past what it hides."""
    with pytest.raises(psycopg.Error) as caught:
        async with instance.host.database.autocommit() as driver:
            await driver.execute("SELECT %s::jsonb", (f'{{"a": {SECRET}}}',))
    assert SECRET not in describe(caught.value)
    structlog.get_logger("ringfence.test").error("failed", exc_info=caught.value)
    assert SECRET not in logged.getvalue()


@pytest.mark.slow
async def test_readiness_tells_strangers_no_secret(run_host: RunHost) -> None:
    host = await run_host()

    async def fail() -> None:
        async with host.runtime.database.sessions() as session:
            await session.execute(text("SELECT CAST(:x AS int)"), {"x": SECRET})

    task = host.runtime.tasks.spawn(fail(), plugin="host", name="work")
    await asyncio.wait({task})
    assert host.runtime.tasks.failures["host:work"].startswith("DataError: invalid input syntax")
    assert SECRET not in host.runtime.tasks.failures["host:work"]
