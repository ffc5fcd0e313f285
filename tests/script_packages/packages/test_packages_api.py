"""Packages over HTTP: what is allowed, by whom; the sets; and what must not be taken."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from ringfence.host import Host
from ringfence.testing import client
from ringfence_script_packages.addresses import PACKAGES

from tests.script_packages.packages.conftest import ENTRIES, SETS, Packages
from tests.shared_hosts import OWN, SHARED

pytestmark = SHARED


async def test_what_is_allowed_is_listed_with_who_and_why(packages: Packages) -> None:
    await packages.allow("Requests>=2", "psycopg[binary]", reason="for the checks of web sites")
    await packages.allow("zod@^3", "@scope/name", ecosystem="npm", set="forms")
    entries = (await packages.http.get(ENTRIES)).json()["entries"]
    assert [(one["set"], one["ecosystem"], one["requirement"]) for one in entries] == [
        ("default", "pypi", "psycopg[binary]"),
        ("default", "pypi", "requests>=2"),
        ("forms", "npm", "@scope/name"),
        ("forms", "npm", "zod@^3"),
    ]
    assert entries[1]["reason"] == "for the checks of web sites"
    assert entries[1]["allowedBy"].startswith("admin-")
    only = (await packages.http.get(ENTRIES, params={"set": "forms"})).json()["entries"]
    assert [one["name"] for one in only] == ["@scope/name", "zod"]


async def test_entries_come_page_by_page(packages: Packages) -> None:
    await packages.allow("a", "b", "c")
    first = (await packages.http.get(ENTRIES, params={"limit": 2})).json()
    second = (await packages.http.get(ENTRIES, params={"limit": 2, "after": first["next"]})).json()
    assert [one["name"] for one in first["entries"] + second["entries"]] == ["a", "b", "c"]
    assert second["next"] is None


async def test_the_same_name_is_one_entry_whatever_its_spelling(packages: Packages) -> None:
    await packages.allow("Ruamel.Yaml")
    await packages.allow("ruamel_yaml>=0.18")
    [entry] = (await packages.http.get(ENTRIES)).json()["entries"]
    assert entry["requirement"] == "ruamel-yaml>=0.18"
    twice = await packages.http.post(ENTRIES, json={"packages": ["a-b", "A_B>2"]})
    assert twice.status_code == 422


async def test_what_is_removed_is_allowed_no_more(packages: Packages) -> None:
    await packages.allow("@scope/name", ecosystem="npm")
    gone = {"name": "@scope/name", "ecosystem": "npm"}
    assert (await packages.http.delete(ENTRIES, params=gone)).json()["name"] == "@scope/name"
    again = await packages.http.delete(ENTRIES, params=gone)
    assert again.status_code == 404
    assert "@scope/name (npm) is not allowed in the set default" in again.json()["detail"]


CANNOT_BE_ALLOWED = [
    ({"packages": ["x @ https://a.invalid/x.whl"]}, "names an address"),
    ({"packages": ["x; python_version < '4'"]}, "has a marker"),
    ({"packages": ["-r x"]}, "is not a requirement"),
    ({"packages": []}, "/packages"),
    ({"packages": ["x"], "set": "inline-x"}, "not begin with inline-"),
    ({"packages": ["x"], "set": "../x"}, "small letters"),
    ({"packages": ["x"], "ecosystem": "gems"}, "ecosystem"),
    ({"packages": ["x"], "more": 1}, "more"),
]


async def test_what_cannot_be_allowed_is_refused_with_the_reason(packages: Packages) -> None:
    for body, said in CANNOT_BE_ALLOWED:
        answer = await packages.http.post(ENTRIES, json=body)
        assert answer.status_code == 422, body
        assert said in answer.json()["detail"]
        assert (await packages.http.get(ENTRIES)).json()["entries"] == []


async def test_a_set_that_there_is_not_is_told_by_name(packages: Packages) -> None:
    for answer in (
        await packages.http.get(f"{SETS}/none"),
        await packages.http.post(f"{SETS}/none/install", json={}),
        await packages.http.delete(f"{SETS}/none"),
    ):
        assert answer.status_code == 404
        assert "there is no set of packages 'none'" in answer.json()["detail"]
    assert (await packages.http.get(f"{PACKAGES}/locks/{'0' * 64}")).status_code == 404


async def test_a_deleted_set_takes_its_entries_along(packages: Packages) -> None:
    await packages.allow("alpha", set="forms")
    assert [one["name"] for one in (await packages.http.get(SETS)).json()["sets"]] == ["forms"]
    assert (await packages.http.delete(f"{SETS}/forms")).status_code == 200
    assert (await packages.http.get(SETS)).json()["sets"] == []
    assert (await packages.http.get(ENTRIES)).json()["entries"] == []


async def test_who_may_read_may_not_change(host: Host, packages: Packages) -> None:
    await packages.allow("alpha")
    async with client(host, rules=["script-packages.package.read"]) as reader:
        assert (await reader.get(ENTRIES)).status_code == 200
        assert (await reader.get(f"{SETS}/default")).status_code == 200
        assert (await reader.post(ENTRIES, json={"packages": ["x"]})).status_code == 403
        assert (await reader.post(f"{SETS}/default/install", json={})).status_code == 403
        assert (await reader.delete(f"{SETS}/default")).status_code == 403
    async with client(host, rules=["script-packages.script-sandbox.manage"]) as other:
        assert (await other.get(ENTRIES)).status_code == 403


@OWN
async def test_every_instance_tells_the_same(
    another: Callable[[], Awaitable[Host]], packages: Packages
) -> None:
    await packages.allow("alpha")
    async with client(await another()) as http:
        assert [one["name"] for one in (await http.get(ENTRIES)).json()["entries"]] == ["alpha"]
