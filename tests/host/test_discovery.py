"""Finding the installed plugins: what is wrong with one is told with the name of its distribution."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from ringfence.plugins.discovery import UnfitPlugin, discover
from ringfence.plugins.lifecycle import Lifecycle
from ringfence.plugins.registry import API_VERSION, PluginError
from ringfence.plugins.services import ServiceDirectory
from ringfence.testing import installed


@pytest.fixture
def only_installed_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory that stands for the installed packages, with the entry points of nothing else in sight."""
    search = [entry for entry in sys.path if not list(Path(entry or ".").glob("ringfence*.dist-info"))]
    monkeypatch.setattr(sys, "path", [str(tmp_path), *search])
    return tmp_path


def install(
    directory: Path, name: str, entry_point: str, code: str = "", *, group: str = "ringfence.plugins"
) -> None:
    """Lay out a distribution as pip would."""
    sys.modules.pop(f"{name}_code", None)
    metadata = directory / f"{name}-2.5.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 2.5\n")
    (metadata / "entry_points.txt").write_text(f"[{group}]\n{entry_point}\n")
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
        ("notes = broken_code:Notes", "raise SystemExit('no display')", "SystemExit: no display"),
        (
            "notes = broken_code:Notes",
            "from ringfence import Novelty",
            f"plugin API {API_VERSION}: is the plugin for",
        ),
        (
            "notes = broken_code:Notes",
            "import ringfence\nclass Notes:\n    info = ringfence.Novelty",
            f"plugin API {API_VERSION}: is the plugin for",
        ),
        (
            "notes = broken_code:Notes",
            GOOD.replace('"1.0"', '"1.0", novelty=True'),
            f"plugin API {API_VERSION}: is the plugin for",
        ),
        ("notes = broken_code:Absent", "", "AttributeError"),
        ("notes = broken_code:Notes", "class Notes:\n    def __init__(self, needed): ...", "TypeError"),
        ("notes = broken_code:Notes", "class Notes: ...", "has no `info = PluginInfo"),
        ("other = broken_code:Notes", GOOD, "calls itself notes: its entry point must have the same name"),
    ],
)
def test_a_plugin_that_cannot_be_made_is_named_with_its_distribution(
    only_installed_here: Path, entry_point: str, code: str, said: str
) -> None:
    install(only_installed_here, "broken", entry_point, code)
    with pytest.raises(PluginError) as refused:
        discover()
    assert said in str(refused.value)
    assert f"plugin {entry_point.partition(' ')[0]} (broken_code:" in str(refused.value)
    assert "from broken 2.5" in str(refused.value)


def test_advice_about_the_api_is_given_only_where_it_may_help(only_installed_here: Path) -> None:
    code = "class Notes:\n    def __init__(self): dict().novelty"
    install(only_installed_here, "broken", "notes = broken_code:Notes", code)
    with pytest.raises(PluginError, match=r"'dict' object has no attribute 'novelty'$"):
        discover()


OPTIONAL = "ringfence.plugins.optional"
DEPENDENT = """
from ringfence import PluginInfo
class Reader:
    info = PluginInfo(id="reader", version="1.0", requires=("notes",))
"""


def test_one_that_is_declared_optional_may_fail_to_load_and_goes_with_all_that_requires_it(
    only_installed_here: Path,
) -> None:
    install(only_installed_here, "broken", "notes = broken_code:Notes", "import nowhere", group=OPTIONAL)
    install(only_installed_here, "reading", "reader = reading_code:Reader", DEPENDENT)
    install(only_installed_here, "found", "other = found_code:Notes", GOOD.replace('"notes"', '"other"'))
    lifecycle = Lifecycle(discover(), ServiceDirectory())
    assert [one.info.id for one in lifecycle.alive()] == ["other"]
    broken, reader = (one for one in lifecycle.plugins if not one.alive)
    assert (broken.info.id, broken.info.version) == ("notes", "2.5")
    assert broken.error == (
        "plugin notes (broken_code:Notes, from broken 2.5) cannot be loaded: "
        "ModuleNotFoundError: No module named 'nowhere'"
    )
    assert reader.error == "plugin reader left out: it requires notes, which failed"
    with pytest.raises(PluginError, match="No module named 'nowhere'"):
        installed("reader")


@pytest.mark.parametrize("name", ["My_Notes", "host", "!"])
def test_one_that_is_declared_optional_under_no_plugins_name_stops_nobody_else(
    only_installed_here: Path, name: str
) -> None:
    install(only_installed_here, "broken", f"{name} = broken_code:Notes", GOOD, group=OPTIONAL)
    install(only_installed_here, "found", "other = found_code:Notes", GOOD.replace('"notes"', '"other"'))
    lifecycle = Lifecycle(discover(), ServiceDirectory())
    assert [one.info.id for one in lifecycle.alive()] == ["other"]
    [broken] = (one for one in lifecycle.plugins if not one.alive)
    assert f"plugin {name} (broken_code:Notes, from broken 2.5) calls itself notes" in (broken.error or "")


def test_one_that_takes_the_id_of_another_and_cannot_be_loaded_is_named_with_its_distribution(
    only_installed_here: Path,
) -> None:
    install(only_installed_here, "broken", "notes = broken_code:Notes", "import nowhere", group=OPTIONAL)
    install(only_installed_here, "found", "notes = found_code:Notes", GOOD)
    with pytest.raises(
        PluginError, match=r"two plugins call themselves notes: found_code.* and .*from broken 2\.5"
    ):
        Lifecycle(discover(), ServiceDirectory())


def test_one_that_is_declared_optional_is_an_ordinary_plugin_when_it_loads(only_installed_here: Path) -> None:
    code = GOOD.replace(")", ", optional=True)")
    install(only_installed_here, "found", "notes = found_code:Notes", code, group=OPTIONAL)
    [plugin] = discover()
    assert not isinstance(plugin, UnfitPlugin)
    assert plugin.info.id == "notes"


def test_a_plugin_must_not_be_optional_outside_and_required_inside(only_installed_here: Path) -> None:
    install(only_installed_here, "found", "notes = found_code:Notes", GOOD, group=OPTIONAL)
    [plugin] = discover()
    assert isinstance(plugin, UnfitPlugin)
    assert "so say the same inside" in str(plugin.cause)
