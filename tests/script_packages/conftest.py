"""Every test here is about the script-packages plugin alone, on a real host."""

from __future__ import annotations

import pytest
from ringfence.testing import PluginFactory
from ringfence_script_packages.plugin import ScriptPackagesPlugin


@pytest.fixture
def plugins_under_test() -> PluginFactory:
    return lambda: [ScriptPackagesPlugin()]
