"""docs/writing-a-plugin.md: its code is the code that is tested, and no public name is missing from it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import ringfence
import ringfence.cli
import ringfence.expressions
import ringfence.pages
import ringfence.testing
import ringfence.web
from ringfence import PluginContext, PluginInfo, Registry
from ringfence.plugins.plugin_services import PluginServices
from ringfence.plugins.registry import API_VERSION, PluginWeb
from ringfence.storage.configs import PluginConfigs
from ringfence.testing import Recorder

ROOT = Path(__file__).parents[2]
GUIDE = (ROOT / "docs" / "writing-a-plugin.md").read_text()
PLUGIN = ROOT / "tests" / "third_party" / "policy_diary"
BLOCKS = dict(re.findall(r"^```\w+ (\S+)\n(.*?)^```$", GUIDE, flags=re.MULTILINE | re.DOTALL))


def test_the_guide_shows_every_file_of_the_plugin_that_says_anything() -> None:
    files = {
        path.relative_to(PLUGIN) for suffix in ("py", "toml", "html") for path in PLUGIN.rglob(f"*.{suffix}")
    }
    assert {Path(name) for name in BLOCKS} == {path for path in files if path.name != "__init__.py"}


@pytest.mark.parametrize("name", sorted(BLOCKS))
def test_what_the_guide_shows_is_what_is_tested(name: str) -> None:
    assert BLOCKS[name] == (PLUGIN / name).read_text()


def test_it_takes_about_sixty_lines_as_the_guide_says() -> None:
    assert "about sixty lines of\nPython" in GUIDE
    lines = BLOCKS["src/policy_diary/plugin.py"].splitlines()
    assert len([line for line in lines if line.strip()]) <= 60


SURFACES = (Registry, PluginContext, PluginServices, PluginConfigs, PluginWeb)
"""What plugins are handed, and what hangs on it."""


def members(kind: type) -> list[str]:
    return [name for name in vars(kind) if not name.startswith("_") and callable(getattr(kind, name, None))]


@pytest.mark.parametrize(
    "name",
    [
        *ringfence.__all__,
        *ringfence.cli.__all__,
        *ringfence.expressions.__all__,
        *ringfence.pages.__all__,
        *ringfence.web.__all__,
        *ringfence.testing.__all__,
        *(f"{name}(" for kind in SURFACES for name in members(kind)),
        *(name for name, member in vars(PluginContext).items() if isinstance(member, property)),
        *members(Recorder),
        *PluginInfo.__dataclass_fields__,
        "run_host",
        "record",
    ],
)
def test_every_public_name_is_in_the_guide(name: str) -> None:
    assert re.search(rf"`[^`]*\b{re.escape(name)}", GUIDE), f"{name} is public and not in the guide"


def test_the_guide_is_about_this_version_of_the_api() -> None:
    assert f"api={API_VERSION})" in GUIDE
