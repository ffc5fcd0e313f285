"""Finding the installed plugins: what is wrong with one is told with the name of its distribution."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from ringfence.discovery import discover
from ringfence.plugin import PluginError


@pytest.fixture
def only_installed_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory that stands for the installed packages, with the entry points of nothing else in sight."""
    search = [entry for entry in sys.path if not list(Path(entry or ".").glob("ringfence*.dist-info"))]
    monkeypatch.setattr(sys, "path", [str(tmp_path), *search])
    return tmp_path


def install(directory: Path, name: str, entry_point: str, code: str = "") -> None:
    """Lay out a distribution as pip would."""
    metadata = directory / f"{name}-2.5.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 2.5\n")
    (metadata / "entry_points.txt").write_text(f"[ringfence.plugins]\n{entry_point}\n")
    (directory / f"{name}_code.py").write_text(code)


GOOD = """
from ringfence import PluginInfo
class Notes:
    info = PluginInfo(id="notes", version="1.0")
"""


def test_installed_plugins_are_found_and_made(only_installed_here: Path) -> None:
    install(only_installed_here, "found", "notes = found_code:Notes", GOOD)
    [plugin] = discover()
    assert plugin.info.id == "notes"


def test_nothing_installed_is_nothing_found(only_installed_here: Path) -> None:
    assert discover() == []


@pytest.mark.parametrize(
    ("entry_point", "code", "said"),
    [
        ("notes = broken_code:Notes", "import nowhere_to_be_found", "ModuleNotFoundError"),
        ("notes = broken_code:Absent", "", "AttributeError"),
        ("notes = broken_code:Notes", "class Notes:\n    def __init__(self, needed): ...", "TypeError"),
        ("notes = broken_code:Notes", "class Notes: ...", "has no `info = PluginInfo"),
        ("other = broken_code:Notes", GOOD, "calls itself notes: its entry point must have the same name"),
    ],
)
def test_a_plugin_that_cannot_be_made_is_named_with_its_distribution(
    only_installed_here: Path, entry_point: str, code: str, said: str
) -> None:
    sys.modules.pop("broken_code", None)
    install(only_installed_here, "broken", entry_point, code)
    with pytest.raises(PluginError) as refused:
        discover()
    assert said in str(refused.value)
    assert f"plugin {entry_point.partition(' ')[0]} (broken_code:" in str(refused.value)
    assert "from broken 2.5" in str(refused.value)
