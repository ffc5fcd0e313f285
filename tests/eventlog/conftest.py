"""The hosts of these tests run the probe alone."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator, Iterator, MutableMapping
from typing import Any

import pytest
import structlog
from ringfence.storage.embedded import EmbeddedPostgres
from ringfence.testing import TEST_SERVER_OPTIONS, PluginFactory, make_reachable_directory

from tests.eventlog.probe import Probe


@pytest.fixture
def plugins_under_test() -> PluginFactory:
    return lambda: [Probe()]


@pytest.fixture(autouse=True)
def logged() -> Iterator[list[MutableMapping[str, Any]]]:
    """What was logged. Failures are what many of these tests are about, and a traceback takes long to draw."""
    with structlog.testing.capture_logs() as entries:
        yield entries


@pytest.fixture
async def own_server() -> AsyncIterator[EmbeddedPostgres]:
    """A server for one test to stop and start."""
    directory = make_reachable_directory()
    server = EmbeddedPostgres(directory / "postgres", options=TEST_SERVER_OPTIONS)
    try:
        await server.start()
        yield server
    finally:
        await server.stop()
        await asyncio.to_thread(shutil.rmtree, directory, ignore_errors=True)
