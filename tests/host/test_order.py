"""The order in which plugins live, and what is refused before any of their code runs."""

from __future__ import annotations

import itertools
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ringfence import PluginInfo
from ringfence.plugins.discovery import UnfitPlugin, order
from ringfence.plugins.registry import API_VERSION, PluginError

from tests.host.plugins import MadePlugin


def ids(*plugins: MadePlugin) -> list[str]:
    return [plugin.info.id for plugin in order(plugins)]


def test_a_plugin_comes_after_all_that_it_requires() -> None:
    web, data, notes = (
        MadePlugin("web", requires=("data", "notes")),
        MadePlugin("data"),
        MadePlugin("notes", requires=("data",)),
    )
    for given_order in itertools.permutations([web, data, notes]):
        assert ids(*given_order) == ["data", "notes", "web"]


def test_plugins_that_do_not_depend_on_one_another_come_by_id() -> None:
    assert ids(MadePlugin("c"), MadePlugin("a"), MadePlugin("b")) == ["a", "b", "c"]


@given(st.lists(st.sets(st.integers(0, 7), max_size=4), min_size=1, max_size=8), st.randoms())
def test_any_plugins_without_a_circle_are_ordered(wanted: list[set[int]], random: object) -> None:
    # Each plugin requires only ones with a smaller number, so there is no circle.
    plugins = [
        MadePlugin(f"p{number}", requires=tuple(f"p{one}" for one in required if one < number))
        for number, required in enumerate(wanted)
    ]
    random.shuffle(plugins)  # type: ignore[attr-defined]
    seen: set[str] = set()
    for plugin in order(plugins):
        assert seen.issuperset(plugin.info.requires)
        seen.add(plugin.info.id)
    assert len(seen) == len(plugins)


def test_a_circle_is_refused_with_the_chain_spelled_out() -> None:
    with pytest.raises(PluginError) as refused:
        ids(
            MadePlugin("a", requires=("b",)),
            MadePlugin("b", requires=("c",)),
            MadePlugin("c", requires=("a",)),
            MadePlugin("apart"),
        )
    chain = str(refused.value).partition(": ")[2].split(" → ")
    assert chain[0] == chain[-1]
    assert len(chain) == 4
    requires = {"a": "b", "b": "c", "c": "a"}
    assert all(requires[one] == next_ for one, next_ in itertools.pairwise(chain)), chain


def test_a_plugin_that_requires_itself_is_a_circle() -> None:
    with pytest.raises(PluginError, match="in a circle: a → a"):
        ids(MadePlugin("a", requires=("a",)))


def test_a_circle_of_optional_plugins_is_left_out_and_stops_nobody_else() -> None:
    a, b = (MadePlugin(id, requires=(other,), optional=True) for id, other in (("a", "b"), ("b", "a")))
    after, apart = MadePlugin("after", requires=("a",), optional=True), MadePlugin("apart")
    ordered = {one.info.id: one for one in order([a, b, after, apart])}
    assert (ordered["after"], ordered["apart"]) == (after, apart)
    for id in ("a", "b"):
        unfit = ordered[id]
        assert isinstance(unfit, UnfitPlugin)
        assert re.search("in a circle: (a → b → a|b → a → b)$", str(unfit.cause))
    with pytest.raises(PluginError, match="in a circle"):
        ids(a, MadePlugin("b", requires=("a",)))


def test_an_unknown_requirement_names_the_chain_that_leads_to_it() -> None:
    with pytest.raises(PluginError, match=r"unknown plugin ghost, required by web → notes$"):
        ids(MadePlugin("web", requires=("notes",)), MadePlugin("notes", requires=("ghost",)))


def test_two_plugins_with_one_id_are_refused_with_both_named() -> None:
    class Impostor(MadePlugin):
        pass

    with pytest.raises(PluginError, match=r"two plugins call themselves a: .*MadePlugin and .*Impostor"):
        ids(MadePlugin("a"), Impostor("a"))


def test_every_plugin_of_another_api_version_is_named_at_once() -> None:
    with pytest.raises(PluginError) as refused:
        ids(
            MadePlugin("old", api=API_VERSION - 1), MadePlugin("fits"), MadePlugin("new", api=API_VERSION + 1)
        )
    said = str(refused.value)
    assert f"plugin old 1.0 was written for plugin API {API_VERSION - 1}, this host has {API_VERSION}" in said
    assert f"plugin new 1.0 was written for plugin API {API_VERSION + 1}" in said
    assert "fits" not in said


def test_an_optional_plugin_that_does_not_fit_is_replaced_and_the_others_are_ordered() -> None:
    old = MadePlugin("old", api=API_VERSION + 1, optional=True)
    lost = MadePlugin("lost", requires=("ghost",), optional=True)
    after = MadePlugin("after", requires=("old", "lost"))
    *replaced, last = order([after, old, MadePlugin("fits"), lost])
    assert last is after
    unfit = {one.info.id: str(one.cause) for one in replaced if isinstance(one, UnfitPlugin)}
    assert set(unfit) == {"old", "lost"}
    assert f"was written for plugin API {API_VERSION + 1}" in unfit["old"]
    assert unfit["lost"] == "unknown plugin ghost, required by after → lost"


def test_a_plugin_that_does_not_say_its_api_version_is_one_of_the_first() -> None:
    assert PluginInfo(id="a", version="1").api == 1


@pytest.mark.parametrize("id", ["", "Notes", "my_notes", "-a", "a-", "a--b", "a/b", "1a", "a b", "ä"])
def test_a_malformed_id_is_refused(id: str) -> None:
    with pytest.raises(PluginError, match="lower-case words joined by hyphens"):
        PluginInfo(id=id, version="1")


@pytest.mark.parametrize("id", ["host", "ws", "docs"])
def test_the_names_of_the_host_itself_are_refused(id: str) -> None:
    with pytest.raises(PluginError, match="the host's own"):
        PluginInfo(id=id, version="1")
