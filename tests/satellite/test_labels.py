"""Labels and vars of satellites: which there may be, what becomes of tags, and who is told of a change."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import psycopg
import pytest
from hypothesis import given
from hypothesis import strategies as st
from ringfence import PluginContext, PluginInfo, hookimpl
from ringfence.scripts import ScriptKind
from ringfence.testing import PluginFactory, client, installed
from ringfence_satellite.hooks import SatelliteChanged, satellite_changed, stream_of
from ringfence_satellite.labels import key_fault, label_of, merged, value_fault
from ringfence_satellite.plugin import SatellitePlugin
from ringfence_satellite.server.profile import Profile, ProfileError
from ringfence_satellite.service import (
    AssignedSatellite,
    Assignment,
    AssignmentSource,
    CheckResult,
    StrategyError,
)

from tests.satellite.instances import SATELLITES, Instance, Peer
from tests.shared_hosts import SHARED

LETTERS = "abcXYZ019"


class Teller:
    """A plugin that has each satellite run a script which is all that is known of it."""

    info = PluginInfo(id="teller", version="1", requires=("satellite",))

    @hookimpl
    async def init(self, context: PluginContext) -> None:
        context.services.extend(AssignmentSource, self)

    async def assignments(self, satellite: AssignedSatellite) -> Sequence[Assignment]:
        known = {**satellite.facts, "tags": sorted(satellite.tags), "labels": dict(satellite.labels)}
        script, kind = json.dumps(known), ScriptKind.SHELL
        return [Assignment(config_id="told", system_id="x", kind=kind, script=script, interval_seconds=3600)]

    async def report(self, satellite: AssignedSatellite, frame: CheckResult | StrategyError) -> bool:
        return False

    async def secrets(self, satellite: AssignedSatellite, config_id: str) -> Mapping[str, str] | None:
        return None


@pytest.fixture(scope="module")
def plugins_under_test() -> PluginFactory:
    return lambda: [*installed("satellite"), Teller()]


async def told(peer: Peer, kind: str = "config_updated") -> dict[str, Any]:
    """What the teller knows of the satellite."""
    [assignment] = (await peer.hear(kind))["assignments"]
    known: dict[str, Any] = json.loads(assignment["script"])
    return known


# Names and values --------------------------------------------------------------------------------


def is_word(text: str) -> bool:
    return 0 < len(text) <= 63 and all(
        one in LETTERS or (one in "-_." and 0 < at < len(text) - 1) for at, one in enumerate(text)
    )


def is_prefix(text: str) -> bool:
    parts = text.split(".")
    return len(text) <= 253 and all(
        part and set(part) <= set("abc019-") and part[0] != "-" != part[-1] for part in parts
    )


words = st.text(LETTERS + "-_. /=", max_size=6) | st.integers(60, 66).map(lambda n: "a" * n)
prefixes = st.text("abcX019-. ", max_size=8) | st.integers(250, 256).map(lambda n: "a" * n)


@given(words)
def test_values_go_by_kubernetes_rules(text: str) -> None:
    assert (value_fault(text) is None) == (text == "" or is_word(text))


@given(words.filter(lambda text: "/" not in text), st.none() | prefixes)
def test_names_go_by_kubernetes_rules(name: str, prefix: str | None) -> None:
    key = name if prefix is None else f"{prefix}/{name}"
    assert (key_fault(key) is None) == (is_word(name) and (prefix is None or is_prefix(prefix)))


@pytest.mark.parametrize("text", ["a\n", "a\0", "é", "a/b/c", "/a", "a/", "A.io/b", "a..b/c", "-a", "a b"])
def test_what_is_no_name_is_refused_by_what_is_wrong_with_it(text: str) -> None:
    assert key_fault(text) is not None


def test_a_tag_that_fits_is_a_label_and_one_that_does_not_is_not() -> None:
    assert [label_of(tag) for tag in ("web", "env=dev", "example.org/a=", "two words", "a=b=c", "=b")] == [
        ("web", ""),
        ("env", "dev"),
        ("example.org/a", ""),
        None,
        None,
        None,
    ]


def test_a_name_has_one_value_and_that_of_a_label_goes_first() -> None:
    assert merged(["env=dev", "env=prod", "env", "db"], {}) == {"env": "dev", "db": ""}
    assert merged(["env=dev", "db"], {"env": "prod"}) == {"env": "prod", "db": ""}


# What may be changed, and what stays --------------------------------------------------------------

BARE = Profile("n", "r", (), {}, {})


def test_labels_without_a_value_are_kept_as_tags() -> None:
    made = BARE.with_tags(["old one", "db=1"]).with_labels({"web": "", "region": "eu"})
    assert (made.tags, made.labels) == (("old one", "db=1", "web"), {"region": "eu"})
    assert made.all_labels == {"db": "1", "web": "", "region": "eu"}
    assert made.carried == {"old one", "db=1", "web", "region=eu"}


def test_what_is_said_otherwise_of_a_label_does_not_count_when_it_is_placed() -> None:
    made = BARE.with_tags(["env=prod", "env=dev", "env", "web", "two words"])
    assert made.carried == {"env=prod", "env=dev", "env", "web", "two words"}
    assert made.effective == {"env=prod", "web", "two words"}
    assert BARE.with_tags(["x="]).with_labels({"y": "1"}).effective == {"x=", "y=1"}


def test_a_label_has_one_value_however_it_is_given() -> None:
    made = BARE.with_tags(["env", "env=dev"]).with_labels({"env": "prod"})
    assert (made.tags, made.labels) == ((), {"env": "prod"})
    assert made.with_labels({"env": ""}).all_labels == {"env": ""}
    assert made.with_tags(["env=dev"]).all_labels == {"env": "dev"}
    assert made.with_labels({"env": None}) == BARE


keys = st.sampled_from(["a", "b", "c", "d/e"])
values = st.sampled_from(["", "x", "y"])


@given(st.lists(st.sampled_from(["a", "a=x", "b=y", "not one"]), max_size=3), st.dictionaries(keys, values))
def test_a_label_that_is_set_has_that_value_and_one_that_is_taken_off_has_none(
    tags: list[str], wanted: dict[str, str]
) -> None:
    before = BARE.with_tags(tags)
    after = before.with_labels(wanted)
    assert after.all_labels == {**before.all_labels, **wanted}
    assert {key: after.all_labels[key] for key in wanted} == wanted
    gone = after.with_labels(dict.fromkeys(after.all_labels))
    assert gone.all_labels == {}
    assert set(gone.tags) == {"not one"} & set(tags)


def test_there_are_bounds_and_who_is_beyond_may_still_be_changed() -> None:
    many = {f"l{n}": "x" for n in range(50)}
    with pytest.raises(ProfileError, match="at most 50 labels"):
        BARE.with_labels(many).with_labels({"more": ""})
    with pytest.raises(ProfileError, match="at most 50 labels"):
        BARE.with_labels(many).with_tags(["more"])
    beyond = Profile("n", "r", ("x", "y"), many, {})
    assert len(beyond.with_labels({"l1": "z"}).carried) == 52
    with pytest.raises(ProfileError, match="at most 100 vars"):
        BARE.with_vars({f"v{n}": "" for n in range(101)})


@SHARED
async def test_labels_and_vars_are_given_shown_and_changed_one_by_one(instance: Instance) -> None:
    satellite = await instance.register(
        tags=["web", "two words"], labels={"env": "dev", "db": ""}, vars={"disk_warn": "80", "_x": ""}
    )
    shown = await instance.show(satellite)
    assert shown["tags"] == ["web", "two words", "db"]
    assert shown["labels"] == {"web": "", "db": "", "env": "dev"}
    assert shown["vars"] == {"disk_warn": "80", "_x": ""}
    changed = await instance.api.patch(
        f"{SATELLITES}/{satellite.id}",
        json={"labels": {"env": "prod", "web": None, "example.org/x": "1"}, "vars": {"_x": None, "y": "ü"}},
    )
    assert changed.status_code == 200, changed.text
    assert changed.json()["labels"] == {"db": "", "env": "prod", "example.org/x": "1"}
    assert changed.json()["vars"] == {"disk_warn": "80", "y": "ü"}
    assert changed.json()["tags"] == ["two words", "db"]
    changed = await instance.api.patch(f"{SATELLITES}/{satellite.id}", json={"tags": ["web"]})
    assert changed.json()["labels"] == {"web": "", "env": "prod", "example.org/x": "1"}


AGAINST_THE_RULES: list[tuple[dict[str, Any], str]] = [
    ({"labels": {"-a": "b"}}, "/body/labels"),
    ({"labels": {"a": "b c"}}, "/body/labels"),
    ({"labels": {"a": "b" * 64}}, "/body/labels"),
    ({"labels": {"a": 1}}, "/body/labels"),
    ({"labels": {f"a{n}": "" for n in range(101)}}, "/body/labels"),
    ({"vars": {"1a": "b"}}, "/body/vars"),
    ({"vars": {"a-b": "b"}}, "/body/vars"),
    ({"vars": {"a\n": "b"}}, "/body/vars"),
    ({"vars": {"a" * 65: "b"}}, "/body/vars"),
    ({"vars": {"a": "b" * 1001}}, "/body/vars"),
    ({"vars": {"a": "\0"}}, "/body/vars"),
]


@SHARED
async def test_what_breaks_the_rules_is_refused_and_named(instance: Instance) -> None:
    satellite = await instance.register()
    for fields, pointer in AGAINST_THE_RULES:
        for answer in (
            await instance.api.patch(f"{SATELLITES}/{satellite.id}", json=fields),
            await instance.api.post(SATELLITES, json={"name": "x", "region": "eu", **fields}),
        ):
            assert answer.status_code == 422, answer.text
            assert any(one["pointer"].startswith(pointer) for one in answer.json()["errors"]), answer.text


@SHARED
async def test_labels_beyond_the_bound_are_refused_when_they_are_added(instance: Instance) -> None:
    satellite = await instance.register(labels={f"a{n}": "x" for n in range(50)})
    answer = await instance.api.patch(f"{SATELLITES}/{satellite.id}", json={"labels": {"more": "x"}})
    assert answer.status_code == 422
    assert answer.json()["detail"] == "a satellite has at most 50 labels, tags included"


# Who is told -------------------------------------------------------------------------------------


@SHARED
async def test_each_change_reaches_what_is_assigned_on_whichever_instance(
    instance: Instance, other: Instance
) -> None:
    here, there = instance, other
    satellite = await here.register("a", tags=["web"], labels={"env": "dev"}, vars={"x": "1"})
    path = f"{SATELLITES}/{satellite.id}"
    known = {
        "satellite.id": satellite.id,
        "satellite.name": "a",
        "satellite.region": "eu",
        "vars.x": "1",
        "tags": ["env=dev", "web"],
        "labels": {"web": "", "env": "dev"},
    }
    async with there.peer(satellite) as peer:
        assert await told(peer, "authenticated") == known
        await here.api.patch(path, json={"name": "b"})
        assert await told(peer) == known | {"satellite.name": "b"}
        await here.api.patch(path, json={"offlineAfterSeconds": 60})  # tells nothing
        await here.api.patch(path, json={"region": "us"})
        assert await told(peer) == known | {"satellite.name": "b", "satellite.region": "us"}
        await here.api.patch(path, json={"vars": {"x": None, "y": "2"}})
        known = known | {"satellite.name": "b", "satellite.region": "us", "vars.y": "2"}
        del known["vars.x"]
        assert await told(peer) == known
        await here.api.patch(path, json={"labels": {"env": "prod"}})
        assert await told(peer) == known | {
            "tags": ["env=prod", "web"],
            "labels": {"web": "", "env": "prod"},
        }
        await here.api.patch(path, json={"tags": []})
        assert await told(peer) == known | {"tags": ["env=prod"], "labels": {"env": "prod"}}


@SHARED
async def test_tags_that_an_earlier_release_writes_take_no_label_and_no_var_away(instance: Instance) -> None:
    satellite = await instance.register("a", tags=["web"], labels={"env": "dev"}, vars={"x": "1"})
    (context,) = (
        one.plugin._context for one in instance.host.plugins if isinstance(one.plugin, SatellitePlugin)
    )
    async with instance.connected(satellite) as peer:
        # As the releases before labels do it: they write the one column, and their event tells of nothing else.
        url = instance.host.database.libpq_url
        async with await psycopg.AsyncConnection.connect(url, autocommit=True) as connection:
            await connection.execute(
                "UPDATE satellite_satellites SET tags = %s WHERE id = %s", (["db"], satellite.id)
            )
        fact = SatelliteChanged.model_validate(
            {
                "satellite_id": satellite.id,
                "name": "a",
                "region": "eu",
                "tags": ["db"],
                "offline_after_seconds": 45,
            }
        )
        stream = stream_of(fact.satellite_id)
        await context.emit_hook(satellite_changed, fact, standalone=True, stream=stream)
        seen = await told(peer)
        assert (seen["tags"], seen["labels"]) == (["db", "env=dev"], {"db": "", "env": "dev"})
        assert seen["vars.x"] == "1"
    shown = await instance.show(satellite)
    assert (shown["labels"], shown["vars"]) == ({"db": "", "env": "dev"}, {"x": "1"})
    found = await instance.api.get(SATELLITES, params={"tag": ["db", "env=dev"]})
    assert [one["name"] for one in found.json()["satellites"]] == ["a"]


# Who may ----------------------------------------------------------------------------------------

READ, MANAGE, PLACE, RUN = (
    f"satellite.{rule}" for rule in ("satellite.read", "satellite.manage", "satellite.place", "script.run")
)
SCRIPT = {"kind": "shell", "script": "true", "timeoutMs": 1000}


@SHARED
async def test_who_manages_satellites_gives_none_labels_or_vars(instance: Instance) -> None:
    placed = await instance.register("placed", labels={"env": "dev"}, vars={"x": "1"})
    async with client(instance.host, rules=[MANAGE]) as http:
        for refused in (
            await http.post(SATELLITES, json={"name": "x", "region": "eu", "labels": {"env": "dev"}}),
            await http.post(SATELLITES, json={"name": "x", "region": "eu", "vars": {"x": "1"}}),
            await http.patch(f"{SATELLITES}/{placed.id}", json={"labels": {"env": "prod"}}),
            await http.patch(f"{SATELLITES}/{placed.id}", json={"labels": {"env": None}}),
            await http.patch(f"{SATELLITES}/{placed.id}", json={"labels": {"web": ""}}),
            await http.patch(f"{SATELLITES}/{placed.id}", json={"vars": {"x": "2"}}),
            await http.patch(f"{SATELLITES}/{placed.id}", json={"tags": ["env"]}),
        ):
            assert refused.status_code == 403, refused.text
        same = {"labels": {"env": "dev"}, "vars": {"x": "1"}, "name": "renamed"}
        assert (await http.patch(f"{SATELLITES}/{placed.id}", json=same)).status_code == 200


@SHARED
async def test_a_right_that_is_narrowed_goes_by_labels_with_values(instance: Instance) -> None:
    dev = await instance.register("dev", tags=["web"], labels={"env": "dev"})
    prod = await instance.register("prod", tags=["web"], labels={"env": "prod"})
    async with client(
        instance.host, rules=[f"{rule} on env=dev,web" for rule in (READ, MANAGE, PLACE, RUN)]
    ) as http:
        listed = await http.get(SATELLITES)
        assert [one["name"] for one in listed.json()["satellites"]] == ["dev"]
        assert (await http.get(f"{SATELLITES}/{dev.id}")).status_code == 200
        assert (await http.post(f"{SATELLITES}/{dev.id}/runs", json=SCRIPT)).status_code == 201
        assert len((await http.get("/api/satellite/runs")).json()["runs"]) == 1
        for refused in (
            await http.get(f"{SATELLITES}/{prod.id}"),
            await http.post(f"{SATELLITES}/{prod.id}/runs", json=SCRIPT),
            await http.delete(f"{SATELLITES}/{prod.id}"),
            await http.patch(f"{SATELLITES}/{prod.id}", json={"vars": {"x": "1"}}),
            await http.patch(f"{SATELLITES}/{prod.id}", json={"labels": {"env": "dev"}}),
            await http.patch(f"{SATELLITES}/{dev.id}", json={"labels": {"env": "prod"}}),
            await http.patch(f"{SATELLITES}/{dev.id}", json={"labels": {"web": None}}),
            await http.post(SATELLITES, json={"name": "x", "region": "eu", "labels": {"env": "dev"}}),
            # It would carry `env=dev`, and selectors would take it for one of `env=prod`.
            await http.patch(f"{SATELLITES}/{dev.id}", json={"tags": ["web", "env=prod", "env=dev"]}),
            await http.post(
                SATELLITES, json={"name": "x", "region": "eu", "tags": ["web", "env=prod", "env=dev"]}
            ),
        ):
            assert refused.status_code == 403, refused.text
        changed = await http.patch(
            f"{SATELLITES}/{dev.id}", json={"labels": {"role": "db"}, "vars": {"x": "1"}}
        )
        assert changed.status_code == 200, changed.text
    await instance.api.patch(f"{SATELLITES}/{dev.id}", json={"labels": {"env": "prod"}})
    async with client(instance.host, rules=[f"{RUN} on env=dev"]) as http:
        assert (await http.post(f"{SATELLITES}/{dev.id}/runs", json=SCRIPT)).status_code == 403
