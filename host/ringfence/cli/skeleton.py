"""What a new plugin begins with: texts, for `ringfence plugin`. Pure."""

from __future__ import annotations

from collections.abc import Mapping


def files(id: str) -> Mapping[str, str]:
    """The files of a plugin with this id, by their paths."""
    package = id.replace("-", "_")
    words = {
        "@ID@": id,
        "@PACKAGE@": package,
        "@CLASS@": "".join(part.capitalize() for part in id.split("-")) + "Plugin",
    }
    return {
        _filled(path, words): _filled(text, words)
        for path, text in {
            "pyproject.toml": _PROJECT,
            "src/@PACKAGE@/__init__.py": "",
            "src/@PACKAGE@/plugin.py": _PLUGIN,
            "src/@PACKAGE@/migrations/__init__.py": "",
            "src/@PACKAGE@/migrations/0001_notes.py": migration("0001", None, "the notes", _TABLE),
            "tests/conftest.py": 'pytest_plugins = ["ringfence.testing"]\n',
            "tests/test_@PACKAGE@.py": _TESTS,
        }.items()
    }


def migration(revision: str, before: str | None, what: str, body: str = "    ...\n") -> str:
    """A revision that comes after another, or first."""
    return _MIGRATION.format(
        what=what[:1].upper() + what[1:],
        revision=revision,
        before="None" if before is None else f'"{before}"',
        body=body,
    )


def _filled(text: str, words: Mapping[str, str]) -> str:
    for word, value in words.items():
        text = text.replace(word, value)
    return text


_PROJECT = """\
[build-system]
requires = ["hatchling"]
build-backend = "hatchling.build"

[project]
name = "@ID@"
version = "0.1"
requires-python = ">=3.11"
dependencies = ["ringfence[server]"]

[project.optional-dependencies]
test = ["pytest", "pytest-asyncio"]

[project.entry-points."ringfence.plugins"]
@ID@ = "@PACKAGE@.plugin:@CLASS@"

[tool.hatch.build.targets.wheel]
packages = ["src/@PACKAGE@"]

[tool.pytest.ini_options]
asyncio_mode = "auto"
asyncio_default_fixture_loop_scope = "function"
pythonpath = ["src"]
"""

_PLUGIN = '''\
"""Notes that people write: what a plugin begins with."""

from ringfence import Hook, PluginContext, PluginInfo, Registry, WireModel, hookimpl
from ringfence.web import Caller
from sqlalchemy import text


class Note(WireModel):
    """What somebody wrote."""

    author: str
    text: str


note_written = Hook("@ID@-note-written", Note)


class @CLASS@:
    """Keeps notes, and tells other plugins of each."""

    info = PluginInfo(id="@ID@", version="0.1", api=1)

    @hookimpl
    def register(self, registry: Registry) -> None:
        """Declare what the plugin has."""
        registry.migrations("@PACKAGE@.migrations")
        registry.hook(note_written)
        rule = registry.access_rule("note", "write", "Read the notes and write some")
        router = registry.guarded_router(rule)
        router.get("/notes")(self.notes)
        router.post("/notes", status_code=201)(self.add)

    @hookimpl
    async def after_plugins_ready(self, context: PluginContext) -> None:
        """Everything is up: from here on, hooks may be emitted and listened to."""
        self.context = context

    async def notes(self) -> list[Note]:
        """All notes, oldest first."""
        async with self.context.sessions() as session:
            rows = await session.execute(text("SELECT author, text FROM @PACKAGE@_notes ORDER BY id"))
            return [Note(author=row.author, text=row.text) for row in rows]

    async def add(self, note: str, caller: Caller) -> Note:
        """Write a note: it and its event commit together."""
        written = Note(author=caller.name, text=note)
        insert = text("INSERT INTO @PACKAGE@_notes (author, text) VALUES (:author, :text)")
        async with self.context.sessions.begin() as session:
            await session.execute(insert, {"author": written.author, "text": written.text})
            await self.context.emit_hook(note_written, written, session=session, actor=written.author)
        return written
'''

_TABLE = '''\
    op.execute("""
        CREATE TABLE @PACKAGE@_notes (
            id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
            author text NOT NULL,
            text text NOT NULL
        )
    """)
'''

_MIGRATION = '''\
"""{what}."""

from alembic import op  # noqa: F401

revision = "{revision}"
down_revision = {before}


def upgrade() -> None:
    """Change the tables. What older releases read and write must go on working."""
{body}'''

_TESTS = """\
import pytest
from @PACKAGE@.plugin import @CLASS@
from ringfence.testing import PluginFactory, RunHost, client

NOTES = "/api/@ID@/notes"


@pytest.fixture
def plugins_under_test() -> PluginFactory:
    return lambda: [@CLASS@()]


async def test_a_note_is_kept_with_its_author(run_host: RunHost) -> None:
    host = await run_host()
    async with client(host, name="ann", rules=["@ID@.note.write"]) as ann:
        assert (await ann.post(NOTES, params={"note": "hello"})).status_code == 201
        assert (await ann.get(NOTES)).json() == [{"author": "ann", "text": "hello"}]


async def test_nobody_writes_without_the_rule(run_host: RunHost) -> None:
    async with client(await run_host(), rules=()) as stranger:
        assert (await stranger.post(NOTES, params={"note": "hello"})).status_code == 403
"""
