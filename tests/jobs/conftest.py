"""The hosts of these tests run the clerk alone."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator

import pytest
from ringfence.storage.embedded import EmbeddedPostgres
from ringfence.testing import TEST_SERVER_OPTIONS, PluginFactory, make_reachable_directory

from tests.jobs.clerk import Clerk


@pytest.fixture
def plugins_under_test() -> PluginFactory:
    return lambda: [Clerk()]


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
