"""What plugins bring to the command line: named cheaply, loaded late, and told by name where it does not fit."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest
import typer
import typer.main
from ringfence import PluginInfo, hookimpl
from ringfence.cli.app import app
from ringfence.cli.command_tree import OWN, Commands, plugged
from ringfence.plugins.command_line import GROUP, Plugged
from ringfence.plugins.lifecycle import Lifecycle
from ringfence.plugins.registry import PluginError
from ringfence.plugins.services import ServiceDirectory

DIARY = """
import typer
from ringfence import hookimpl

app = typer.Typer(help="Read the diary.")
app.command("list")(lambda: None)

def write(text: str) -> None:
    "Write into it."

@hookimpl
def commands():
    return {named}
"""


def plug(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, named: dict[str, str], name: str = "diary"
) -> Plugged:
    """The installed plugins, and one of that name."""
    module = f"{name}_of_{tmp_path.name.replace('-', '_')}"
    (tmp_path / f"{module}.py").write_text(DIARY.replace("{named}", repr(named).replace("HERE", module)))
    monkeypatch.syspath_prepend(tmp_path)
    return Plugged([EntryPoint(name, module, GROUP)], own=OWN)


def test_a_plugin_adds_groups_and_single_commands_and_to_the_groups_of_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    named = {
        "diary": "HERE:app",
        "diary write": "HERE:write",
        "token jot": "HERE:write",
        "far off": "HERE:write",
    }
    commands = Commands(plug(tmp_path, monkeypatch, named))
    assert {*OWN, "diary", "far"} == set(commands)
    assert commands["diary"].help == "Read the diary."
    assert set(commands["diary"].commands) == {"list", "write"}
    assert "jot" in commands["token"].commands
    assert set(commands["far"].commands) == {"off"}
    assert "no-such-command" not in commands


@pytest.mark.parametrize(
    ("named", "why"),
    [
        (
            {"run": "HERE:write"},
            "there is a command `ringfence run` already (ringfence.cli.commands.run:run)",
        ),
        ({"diary": "HERE:nothing"}, "has no attribute 'nothing'"),
        ({"diary": "no_such_module:app"}, "No module named 'no_such_module'"),
    ],
)
def test_a_command_that_does_not_fit_says_so_and_breaks_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, named: dict[str, str], why: str
) -> None:
    commands = Commands(plug(tmp_path, monkeypatch, named))
    with pytest.raises(Exception, match="cannot be loaded") as told:
        commands["diary"].callback()
    assert why in str(told.value)
    assert commands["run"].callback.__module__ == "ringfence.cli.commands.run"


@pytest.mark.parametrize("place", ["json", "tests.cli.test_plugged:Lost", "tests.cli.test_plugged:Misspelt"])
def test_what_is_no_module_for_a_command_line_is_told(place: str) -> None:
    found = Plugged([EntryPoint("diary", place, GROUP)], own=OWN)
    assert "cannot be loaded" in found.broken["diary"]
    assert found.places == OWN


class Lost:
    """Brings to the command line what is asked in a host."""

    @hookimpl
    def shutdown(self) -> None: ...


class Misspelt:
    """Means `commands`."""

    @hookimpl
    def comands(self) -> None: ...


class Mistaken:
    """Brings to the host what is asked in a command line."""

    info = PluginInfo(id="mistaken", version="1")

    @hookimpl
    def commands(self) -> dict[str, str]:
        return {}


def test_a_plugin_is_told_where_its_commands_belong() -> None:
    with pytest.raises(
        PluginError, match=r"mistaken.*commands is asked in a command line, .* ringfence.commands"
    ):
        Lifecycle([Mistaken()], ServiceDirectory())


def test_each_first_party_command_has_one_owner() -> None:
    assert plugged().broken == {}
    assert plugged().of("satellite") == (
        "agent",
        "agent install",
        "agent uninstall",
        "demo",
        "policy rollout",
        "runs",
        "satellite",
        "satellite enrol",
        "satellite runs",
    )
    assert plugged().of("script-packages") == ("packages", "policy")
    assert plugged().of("secrets") == ("secret",)
    assert plugged().of("health-checks") == ("check", "policy suggest", "silence")
    assert "automation" in plugged().of("automations")
    assert plugged().of("nobody") == ()


def test_a_command_line_loads_the_command_that_it_runs_and_no_other() -> None:
    program = (
        "import sys\n"
        "from ringfence.cli import main\n"
        "try:\n"
        "    main(['policy', '--help'])\n"
        "except SystemExit:\n"
        "    print('\\n' + ' '.join(sys.modules))\n"
    )
    finished = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    loaded = set(finished.stdout.splitlines()[-1].split())
    all_places = {place.partition(":")[0] for place in plugged().places.values()}
    assert loaded & all_places == {
        "ringfence_script_packages.commands.policy",
        "ringfence_satellite.commands.rollout",
        "ringfence_health_checks.commands.suggest",
    }


def test_the_whole_tree_is_built_of_typer_commands() -> None:
    root = typer.main.get_group(app)
    assert all(command.name == name for name, command in root.commands.items())
