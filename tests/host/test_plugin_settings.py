"""The settings of plugins: built by the host before anything else, and refused by name."""

from __future__ import annotations

import pytest
from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict
from ringfence import PluginInfo, Registry, hookimpl
from ringfence.plugins.lifecycle import Lifecycle
from ringfence.plugins.registry import PluginError
from ringfence.plugins.services import ServiceDirectory
from ringfence.settings import SettingsError


class ClockSettings(BaseSettings):
    """What can be set of the clock."""

    model_config = SettingsConfigDict(env_prefix="RINGFENCE_CLOCK_")

    seconds: int = Field(default=5, ge=1, description="the pause between two ticks")


class Unprefixed(BaseSettings):
    """Would read variables of anybody."""

    path: str = "x"


class Grabbing(BaseSettings):
    """Takes what is the host's."""

    model_config = SettingsConfigDict(env_prefix="RINGFENCE_")

    port: int = 1


class Clock:
    """A plugin with settings."""

    def __init__(self, model: object = ClockSettings, *, id: str = "clock", optional: bool = False) -> None:
        self.info = PluginInfo(id=id, version="1", optional=optional)
        self.model = model
        self.seconds = 0

    @hookimpl
    def settings(self) -> object:
        return self.model

    @hookimpl
    def register(self, registry: Registry) -> None:
        self.seconds = registry.own_settings(ClockSettings).seconds


def loaded(*plugins: Clock) -> Lifecycle:
    return Lifecycle(plugins, ServiceDirectory())


def test_a_plugin_has_its_settings_when_it_registers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RINGFENCE_CLOCK_SECONDS", "7")
    clock = Clock()
    lifecycle = loaded(clock)
    assert clock.seconds == 7
    [setting] = [one for one in lifecycle.settings() if one.owner == "clock"]
    assert (setting.variable, setting.default) == ("RINGFENCE_CLOCK_SECONDS", "5")
    assert setting.description == "the pause between two ticks"


def test_a_setting_that_is_wrong_stops_the_start_and_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RINGFENCE_CLOCK_SECONDS", "0")
    with pytest.raises(SettingsError, match=r"invalid setting RINGFENCE_CLOCK_SECONDS: must be at least"):
        loaded(Clock())


def test_an_optional_plugin_is_left_out_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RINGFENCE_CLOCK_SECONDS", "soon")
    [left_out] = loaded(Clock(optional=True)).plugins
    assert not left_out.alive
    assert "invalid setting RINGFENCE_CLOCK_SECONDS" in str(left_out.error)


@pytest.mark.parametrize(
    ("model", "why"),
    [
        (Unprefixed, "the setting PATH must begin with RINGFENCE_"),
        (Grabbing, "host has the setting RINGFENCE_PORT already"),
        (int, "settings names a model"),
        (ClockSettings(), "settings names a model"),
    ],
)
def test_a_model_that_does_not_fit_is_refused(model: object, why: str) -> None:
    with pytest.raises(PluginError, match=why):
        loaded(Clock(model))


def test_two_plugins_cannot_have_one_setting() -> None:
    with pytest.raises(PluginError, match="clock has the setting RINGFENCE_CLOCK_SECONDS already"):
        loaded(Clock(), Clock(id="watch"))


def test_settings_are_had_only_of_the_model_that_was_named() -> None:
    class Mute(Clock):
        @hookimpl
        def settings(self) -> object:
            return Grabbed

    class Grabbed(BaseSettings):
        model_config = SettingsConfigDict(env_prefix="RINGFENCE_GRABBED_")

    with pytest.raises(PluginError, match="asks for ClockSettings, which its settings"):
        loaded(Mute())
