"""What an operator sets in the environment: what is wrong is named, and what is empty is not set."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from ringfence.plugins.discovery import discover
from ringfence.plugins.lifecycle import Lifecycle
from ringfence.plugins.services import ServiceDirectory
from ringfence.scripts import RunnerSettings, RunnerSettingsError
from ringfence.settings import DEFAULT_PORT, HostSettings, Setting
from ringfence.storage.datadir import default_data_dir

ROOT = Path(__file__).parents[2]
INTERNAL = {
    "RINGFENCE_GO",
    "RINGFENCE_TIMEOUT_SECONDS",
    "RINGFENCE_DEADLINE",
    "RINGFENCE_PACKAGES",
    "RINGFENCE_SATELLITE_NAME",
    "RINGFENCE_STATE_DIR",
}
"""What one process of ours tells another, or a script."""
TOLD_TO_STEPS = {
    "RINGFENCE_ARTIFACT",
    "RINGFENCE_ARTIFACT_LOOK_EXITCODE",
    "RINGFENCE_INPUT",
    "RINGFENCE_ITEM",
    "RINGFENCE_LEFT_OUT",
    "RINGFENCE_RUN",
    "RINGFENCE_TRIGGER",
    "RINGFENCE_TRIGGER_STATUS",
}
"""What steps of automations tell their shell scripts, and how the names of that begin (docs/automations.md)."""
PREFIXES = {
    "RINGFENCE_",
    "RINGFENCE_AUTOMATIONS_",
    "RINGFENCE_HEALTH_CHECKS_",
    "RINGFENCE_GITOPS_",
    "RINGFENCE_NOTIFICATIONS_",
    "RINGFENCE_SATELLITE_",
    "RINGFENCE_SCRIPT_PACKAGES_",
}


def test_a_variable_that_is_set_to_nothing_is_not_set(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("DATA_DIR", "HOST", "PORT", "DATABASE_URL"):
        monkeypatch.setenv(f"RINGFENCE_{name}", "")
    settings = HostSettings()
    assert settings.data_dir == default_data_dir()
    assert (settings.host, settings.port, settings.database_url) == ("127.0.0.1", DEFAULT_PORT, None)


def test_the_runner_is_set_by_the_environment() -> None:
    settings = RunnerSettings.from_environment(
        {
            "RINGFENCE_MAX_CONCURRENT_RUNS": "3",
            "RINGFENCE_WARM_SANDBOXES": "0",
            "RINGFENCE_SCRIPT_PACKAGES": "",
        }
    )
    assert (settings.max_concurrent_runs, settings.warm_sandboxes, settings.packages) == (3, 0, None)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("RINGFENCE_MAX_CONCURRENT_RUNS", "0"),
        ("RINGFENCE_MAX_CONCURRENT_RUNS", "many"),
        ("RINGFENCE_WARM_SANDBOXES", "-1"),
        ("RINGFENCE_WARM_SANDBOXES", "1.5"),
    ],
)
def test_a_setting_of_the_runner_that_is_wrong_is_named(name: str, value: str) -> None:
    with pytest.raises(RunnerSettingsError, match=f"{name} must be a whole number"):
        RunnerSettings.from_environment({name: value})


def named_in_the_sources() -> set[str]:
    """Every variable that a module names, or a model reads."""
    sources = [path for folder in ("host", "plugins") for path in (ROOT / folder).rglob("*.py")]
    named = {name for path in sources for name in re.findall(r"RINGFENCE_[A-Z_]+", path.read_text())}
    return (named | {one.variable for one in every_setting()}) - INTERNAL - TOLD_TO_STEPS - PREFIXES


def every_setting() -> tuple[Setting, ...]:
    return Lifecycle(discover(), ServiceDirectory()).settings()


def test_every_variable_is_a_setting_that_can_be_listed() -> None:
    assert named_in_the_sources() == {one.variable for one in every_setting()}
