"""A fleet's pages: a served instance, and what a browser is shown of it."""

from __future__ import annotations

import pytest
from ringfence.testing import PluginFactory
from ringfence_satellite.plugin import SatellitePlugin
from ringfence_script_packages.plugin import ScriptPackagesPlugin

from tests.satellite.conftest import instance, own, start_instance

__all__ = ["instance", "own", "start_instance"]

READ = "satellite.satellite.read"
MANAGE = "satellite.satellite.manage"
PLACE = "satellite.satellite.place"
RUN = "satellite.script.run"


@pytest.fixture
def plugins_under_test() -> PluginFactory:
    return lambda: [ScriptPackagesPlugin(), SatellitePlugin()]
