"""A plugin as a stranger writes it: a distribution of its own, which knows nothing but the public API."""

from __future__ import annotations

import ast
import json
import shutil
from pathlib import Path

import pytest

from tests.packaging.environments import Environment, build_wheel, install, make_environment
from tools.import_contracts import is_allowed

PROJECT = Path(__file__).parent / "policy_diary"
PUBLIC = [
    "ringfence",
    "ringfence.cli",
    "ringfence.eventlog",
    "ringfence.sandbox",
    "ringfence.scripts",
    "ringfence.testing",
    "ringfence.metrics",
    "ringfence.pages",
    "ringfence.web",
    "ringfence_automations.service",
    "ringfence_automations.testing",
    "ringfence_notifications.service",
    "ringfence_notifications.testing",
    "ringfence_script_packages.hooks",
    "ringfence_script_packages.service",
]
"""What plugins of others may import of Ringfence, as docs/writing-a-plugin.md says."""


@pytest.fixture(scope="session")
def stranger(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Environment:
    """An environment with Ringfence and the stranger's plugin, both built and installed, and their tests' needs."""
    environment = make_environment(tmp_path_factory.mktemp("stranger") / "venv", wheel, ["server"])
    source = tmp_path_factory.mktemp("source") / "policy_diary"
    shutil.copytree(PROJECT, source, ignore=shutil.ignore_patterns("__pycache__", ".*"))
    install(environment, build_wheel(source, source / "dist"), ["test"])
    shutil.copytree(source / "tests", environment.directory / "tests")
    shutil.copy(source / "pyproject.toml", environment.directory)
    return environment


@pytest.mark.slow
def test_its_own_tests_pass_where_it_is_installed(stranger: Environment) -> None:
    finished = stranger.run(stranger.python, "-m", "pytest", "-q", "tests", HOME=str(stranger.directory))
    assert finished.returncode == 0, finished.stdout + finished.stderr
    assert "9 passed" in finished.stdout


@pytest.mark.slow
def test_it_is_discovered_beside_the_first_party_plugins(stranger: Environment) -> None:
    program = (
        "import json; from ringfence.plugins.discovery import discover, order\n"
        "print(json.dumps([[one.info.id, one.__module__] for one in order(discover())]))"
    )
    finished = stranger.run(stranger.python, "-c", program)
    # On a slow machine the log says before that it waits.
    found = json.loads(finished.stdout.splitlines()[-1])
    assert ["policy-diary", "policy_diary.plugin"] in found
    assert [id for id, _ in found].index("script-packages") < [id for id, _ in found].index("policy-diary")


@pytest.mark.slow
def test_its_command_and_its_setting_are_there_and_cost_the_command_line_nothing(
    stranger: Environment,
) -> None:
    program = (
        "import sys\nfrom ringfence.cli import main\n"
        "try:\n    main(['diary', '--help'])\n"
        "except SystemExit:\n"
        "    print('heavy:', sorted({'sqlalchemy', 'fastapi', 'policy_diary.plugin'} & {*sys.modules}))\n"
    )
    shown = stranger.run(stranger.python, "-c", program).stdout
    assert "Write an entry." in shown
    assert "heavy: []" in shown
    listed = stranger.run(stranger.ringfence, "settings", "--json", RINGFENCE_POLICY_DIARY_MAX_LETTERS="7")
    [setting] = [one for one in json.loads(listed.stdout)["settings"] if one["owner"] == "policy-diary"]
    assert (setting["name"], setting["value"]) == ("RINGFENCE_POLICY_DIARY_MAX_LETTERS", "7")


@pytest.mark.slow
def test_it_comes_from_its_own_wheel_and_ringfence_from_its(stranger: Environment) -> None:
    program = "import ringfence, policy_diary; print(ringfence.__file__); print(policy_diary.__file__)"
    finished = stranger.run(stranger.python, "-c", program)
    for line in finished.stdout.splitlines():
        assert Path(line).is_relative_to(stranger.site_packages())
    assert len(finished.stdout.splitlines()) == 2


def imported_by(source: str) -> set[str]:
    """The modules that a source imports anything from."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Import():
                found.update(alias.name for alias in node.names)
            case ast.ImportFrom(module=str(module), level=0):
                found.add(module)
    return found


@pytest.mark.parametrize(
    "path", sorted(PROJECT.rglob("*.py")), ids=lambda path: str(path.relative_to(PROJECT))
)
def test_it_imports_nothing_of_ringfence_but_the_public_api(path: Path) -> None:
    others = {
        module
        for module in imported_by(path.read_text())
        if module.startswith("ringfence") and not is_allowed(module, PUBLIC)
    }
    assert others == set()
