"""A command line to call, and a host for it to talk to."""

from __future__ import annotations

import functools
import json
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import typer.main
from ringfence.cli import command_tree, main
from ringfence.cli.app import app
from ringfence.plugins.command_line import Plugged

from tests.cli.fake_host import FakeHost, serving


@dataclass(frozen=True)
class Outcome:
    """What a command did."""

    status: int
    stdout: str
    stderr: str

    @property
    def json(self) -> Any:
        """Standard output as the one JSON document that it must be."""
        return json.loads(self.stdout)


Command = Callable[..., Outcome]


@pytest.fixture(autouse=True)
def own_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Keep the commands away from any real host of whoever runs the tests."""
    for name in [name for name in os.environ if name.startswith("RINGFENCE_")]:
        monkeypatch.delenv(name)
    # What makes typer take a pipe for a terminal.
    for name in ("FORCE_COLOR", "GITHUB_ACTIONS", "PY_COLORS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("RINGFENCE_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setenv("NO_COLOR", "1")


@functools.cache
def _built(plugged: Plugged) -> Any:
    """All commands, which a process makes once, as it runs one command line."""
    return typer.main.get_command(app)


@pytest.fixture
def command(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Command:
    """Run a command line in this process."""
    made = typer.main.get_command

    def make(one: typer.Typer) -> Any:
        monkeypatch.setattr(typer.main, "get_command", made)
        return _built(command_tree.plugged()) if one is app else made(one)

    def run(*arguments: str) -> Outcome:
        capfd.readouterr()
        monkeypatch.setattr(typer.main, "get_command", make)
        with pytest.raises(SystemExit) as ended:
            main(arguments)
        captured = capfd.readouterr()
        return Outcome(int(ended.value.code or 0), captured.out, captured.err)

    return run


@pytest.fixture
def host(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHost]:
    """A host that the commands are told of by the environment."""
    with serving(FakeHost()) as fake:
        monkeypatch.setenv("RINGFENCE_URL", fake.url)
        monkeypatch.setenv("RINGFENCE_TOKEN", "the-token")
        yield fake
