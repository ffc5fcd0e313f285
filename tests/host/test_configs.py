"""Plugin configs: one document per key, upgraded when an older release wrote it, refused when a newer one did."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import BaseModel
from ringfence import ConfigSchema, PluginContext
from ringfence.storage.configs import ConfigError
from ringfence.testing import RunHost
from sqlalchemy import text

from tests.host.plugins import MadePlugin


class ColourV1(BaseModel):
    colour: str


class Colour(BaseModel):
    red: int
    green: int
    blue: int
    name: str | None = None


def parse_hex(value: dict[str, Any]) -> dict[str, Any]:
    red, green, blue = bytes.fromhex(value["colour"])
    return {"red": red, "green": green, "blue": blue}


def add_name(value: dict[str, Any]) -> dict[str, Any]:
    return value | {"name": "unnamed"}


V1 = ConfigSchema("colour", ColourV1)
V3 = ConfigSchema("colour", Colour, version=3, upgrades={1: parse_hex, 2: add_name})


async def start(run_host: RunHost, id: str, *schemas: ConfigSchema[Any]) -> PluginContext:
    contexts: list[PluginContext] = []

    async def keep(context: PluginContext) -> None:
        contexts.append(context)

    def declare(registry: Any) -> None:
        for schema in schemas:
            registry.config(schema)

    await run_host(plugins=[MadePlugin(id, register=declare, init=keep)])
    return contexts[0]


async def test_what_was_put_is_what_is_read_and_nothing_is_none(run_host: RunHost) -> None:
    context = await start(run_host, "paint", V1)
    async with context.sessions.begin() as session:
        assert await context.configs.get(V1, session=session) is None
        await context.configs.put(V1, ColourV1(colour="ff0000"), session=session, updated_by="me")
        await context.configs.put(V1, ColourV1(colour="00ff00"), session=session)
    async with context.sessions() as session:
        assert await context.configs.get(V1, session=session) == ColourV1(colour="00ff00")
    async with context.sessions.begin() as session:
        await context.configs.delete(V1, session=session)
        assert await context.configs.get(V1, session=session) is None


async def test_a_write_that_is_rolled_back_was_never_there(run_host: RunHost) -> None:
    context = await start(run_host, "paint", V1)
    async with context.sessions() as session:
        await context.configs.put(V1, ColourV1(colour="ff0000"), session=session)
        await session.rollback()
    async with context.sessions() as session:
        assert await context.configs.get(V1, session=session) is None


async def test_each_plugin_has_its_own_documents(run_host: RunHost) -> None:
    first = await start(run_host, "paint", V1)
    second = await start(run_host, "print", V1)
    async with first.sessions.begin() as session:
        await first.configs.put(V1, ColourV1(colour="ff0000"), session=session)
    async with second.sessions() as session:
        assert await second.configs.get(V1, session=session) is None


async def test_an_older_document_is_upgraded_step_by_step_and_stored_so_when_it_is_put(
    run_host: RunHost,
) -> None:
    old = await start(run_host, "paint", V1)
    async with old.sessions.begin() as session:
        await old.configs.put(V1, ColourV1(colour="0a0b0c"), session=session)
    new = await start(run_host, "paint", V3)
    async with new.sessions.begin() as session:
        colour = await new.configs.get(V3, session=session)
        assert colour == Colour(red=10, green=11, blue=12, name="unnamed")
        await new.configs.put(V3, colour, session=session)
        version = await session.execute(text("SELECT schema_version FROM plugin_configs"))
        assert version.scalar_one() == 3


async def test_a_newer_document_is_neither_read_nor_overwritten(run_host: RunHost) -> None:
    new = await start(run_host, "paint", V3)
    async with new.sessions.begin() as session:
        await new.configs.put(V3, Colour(red=1, green=2, blue=3), session=session)
    old = await start(run_host, "paint", V1)
    async with old.sessions() as session:
        with pytest.raises(
            ConfigError, match=r"config colour of paint was written by a newer release \(schema 3"
        ):
            await old.configs.get(V1, session=session)
        with pytest.raises(ConfigError, match="config colour of paint was written by a newer release"):
            await old.configs.put(V1, ColourV1(colour="ff0000"), session=session)
    async with new.sessions() as session:
        assert await new.configs.get(V3, session=session) == Colour(red=1, green=2, blue=3)


async def test_a_document_that_cannot_be_upgraded_or_parsed_is_named(run_host: RunHost) -> None:
    old = await start(run_host, "paint", V1)
    async with old.sessions.begin() as session:
        await old.configs.put(V1, ColourV1(colour="not hex"), session=session)
    new = await start(run_host, "paint", V3)
    async with new.sessions() as session:
        with pytest.raises(ConfigError, match="cannot be upgraded from schema 1 to 2: ValueError"):
            await new.configs.get(V3, session=session)
    async with new.sessions.begin() as session:
        await session.execute(text("UPDATE plugin_configs SET schema_version = 3"))
        with pytest.raises(ConfigError, match="config colour of paint does not fit its model"):
            await new.configs.get(V3, session=session)


async def test_an_undeclared_key_is_refused_for_reading_and_writing(run_host: RunHost) -> None:
    context = await start(run_host, "paint")
    async with context.sessions() as session:
        for use in (
            context.configs.get(V1, session=session),
            context.configs.put(V1, ColourV1(colour="ff0000"), session=session),
            context.configs.delete(V1, session=session),
        ):
            with pytest.raises(ConfigError, match=r"not declared by paint: pass it to registry\.config"):
                await use


def test_a_schema_without_all_its_upgrades_is_refused_where_it_is_written() -> None:
    with pytest.raises(ConfigError, match=r"config colour is at version 3 but has no upgrade from \[2\]"):
        ConfigSchema("colour", Colour, version=3, upgrades={1: parse_hex})
