"""The pages of packages: what is allowed, sets and their locks, how far satellites are, and what is wrong."""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Mapping, Sequence
from typing import Any

import pytest
from ringfence import PluginContext, PluginInfo, hookimpl
from ringfence.host import Host
from ringfence.pages import Page, Pages, View
from ringfence.testing import RunHost, client
from ringfence.web import Principal
from ringfence_script_packages.plugin import ScriptPackagesPlugin
from ringfence_script_packages.service import Held, HeldSet, PackageHolder, PackageUser

from tests.pages.conftest import Browse, Browser
from tests.script_packages.packages.conftest import Packages
from tests.script_packages.packages.registry import Registry

READ = ["script-packages.package.read"]
HOSTILE = "<img src=x>\u202e"
SHOWN = "&lt;img src=x&gt;\\u202e"
SATELLITE = "6f1c1a5e-4a53-4f3a-9c0d-0f8f1f6f0a01"
NOW = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)


class Fleet:
    """A plugin that has checks and satellites, all of them hostile in name."""

    info = PluginInfo(id="fleet", version="1", requires=("script-packages",))

    def __init__(self) -> None:
        self.counted = {"ready": 3, "failed": 1, "offline": 2}

    async def sets(self) -> Sequence[str]:
        return ()

    async def using(self, set: str) -> Sequence[str]:
        return [f"check {number}{HOSTILE}" for number in range(5)] if set == "web" else []

    async def held(self, name: str, lock: str, reader: Principal) -> Held:
        return Held({**self.counted}, [self._one(name, lock)])

    async def counts(self, current: Mapping[str, str], reader: Principal) -> Mapping[str, Mapping[str, int]]:
        return {name: {**self.counted} for name in current}

    async def on(self, machine: str, current: Mapping[str, str], reader: Principal) -> list[HeldSet] | None:
        return [self._one(name, lock) for name, lock in current.items()] if machine == SATELLITE else None

    @staticmethod
    def _one(name: str, lock: str) -> HeldSet:
        return HeldSet(name, lock, "failed", 1024, 4096, f"no room{HOSTILE}", NOW)

    @hookimpl
    def pages(self) -> Pages:
        return Pages(
            package="tests.pages.shown",
            pages=[Page(path="/satellites/{id}", title="Satellite", template="thing.html", show=self.show)],
        )

    async def show(self, view: View) -> Mapping[str, Any]:
        return {"words": "a satellite", "id": view.parameters["id"]}

    @hookimpl
    async def init(self, context: PluginContext) -> None:
        context.services.extend(PackageUser, self)
        context.services.extend(PackageHolder, self)


@pytest.fixture
def registry() -> Registry:
    return Registry({"alpha": [("1.0", 1000), ("2.0", 3000)], "beta": [("1.0", 500)]})


@pytest.fixture
async def host(run_host: RunHost, registry: Registry) -> Host:
    return await run_host(plugins=[ScriptPackagesPlugin(resolver=registry, fetcher=registry), Fleet()])


async def installed(host: Host, name: str) -> dict[str, object]:
    async with client(host) as http:
        return await Packages(http).ended(name)


async def allow(browser: Browser, packages: str, **more: str) -> None:
    answer = await browser.act("/packages/allow", packages=packages, ecosystem="pypi", **more)
    assert answer.status_code == 303, answer.text


async def test_a_package_is_allowed_installed_upgraded_and_removed(host: Host, browse: Browse) -> None:
    browser = await browse(host)
    assert "No package is allowed yet." in (await browser.get("/packages")).text
    await allow(browser, "alpha<2\r\nbeta", set="web", reason=HOSTILE)
    page = (await browser.get("/packages")).text
    assert (SHOWN in page, "<img" in page) == (True, False)
    assert "check 0" in page
    assert "and 2 more" in page
    assert "Nothing has been installed yet" not in (await browser.get("/packages/sets")).text
    done = await browser.act("/packages/sets/web/install")
    assert done.headers["location"] == "/packages/sets/web"
    assert (await installed(host, "web"))["state"] == "current"
    page = (await browser.get("/packages/sets/web")).text
    assert "3 of 6 satellites have it" in page
    assert re.search("alpha</bdi></th>\\s*<td[^>]*><bdi>1.0", page)
    assert "Changes in the last lock" not in page
    assert f"no room{SHOWN}" in page
    (fleet,) = (one.plugin for one in host.plugins if isinstance(one.plugin, Fleet))
    for counted, looks_again in ({"ready": 3, "pending": 1}, True), ({"ready": 3, "failed": 1}, False):
        fleet.counted = counted
        for path in ("/packages", "/packages/sets/web"):
            shown = (await browser.get(path)).text
            assert ("data-renew" in shown) is looks_again, "a page follows what satellites get meanwhile"
    await allow(browser, "alpha", set="web")
    await browser.act("/packages/sets/web/install", upgrade="yes")
    await installed(host, "web")
    page = (await browser.get("/packages/sets/web")).text
    assert re.search("alpha</bdi></th><td[^>]*>pypi</td><td[^>]*>1.0</td><td[^>]*>2.0</td>", page)
    removed = await browser.act("/packages/remove", set="web", ecosystem="pypi", name="beta")
    assert removed.headers["location"] == "/packages/sets/web"
    assert (
        await browser.act("/packages/remove", set="web", ecosystem="pypi", name="beta")
    ).status_code == 404
    assert (await browser.act("/packages/remove", set="web", ecosystem="x", name="beta")).status_code == 404
    assert (await browser.act("/packages/collect")).headers["location"] == "/packages"
    assert "Deleted: " in (await browser.get("/packages")).text
    assert (await browser.act("/packages/sets/web/delete")).headers["location"] == "/packages"
    assert (await browser.get("/packages/sets/web")).status_code == 404


WRONG: list[tuple[dict[str, str], str, str]] = [
    ({"packages": ""}, "packages", "Write 1 to 200 packages"),
    ({"packages": "alpha\nalpha"}, "packages", "Name each package once"),
    ({"packages": "alpha @ https://evil.test/x.whl"}, "packages", "names an address"),
    ({"packages": "alpha; python_version < '3'"}, "packages", "has a marker"),
    ({"packages": "alpha==="}, "packages", "is not a requirement"),
    ({"packages": "\n".join(f"p{number}" for number in range(201))}, "packages", "Write 1 to 200 packages"),
    ({"ecosystem": "gems"}, "ecosystem", "Choose where"),
    ({"set": "No Such"}, "set", "small letters"),
    ({"set": "inline-x"}, "set", "must not begin with inline-"),
    ({"reason": "x" * 1001}, "reason", "at most 1000"),
]


async def test_what_is_wrong_stands_beside_the_field_and_nothing_is_allowed(
    host: Host, browse: Browse
) -> None:
    browser = await browse(host)
    for changed, field, said in WRONG:
        form = {"packages": "alpha", "ecosystem": "pypi", "set": "web", "reason": "", **changed}
        answer = await browser.act("/packages/allow", **form)
        assert answer.status_code == 422, changed
        assert re.search(f'id="error-{field}">[^<]*{re.escape(said)}', answer.text), changed
    assert "No package is allowed yet." in (await browser.get("/packages")).text


async def test_an_installation_that_fails_says_why_on_its_page_and_first_on_the_overview(
    host: Host, browse: Browse
) -> None:
    browser = await browse(host)
    await allow(browser, "gamma")
    await browser.act("/packages/sets/default/install")
    assert (await installed(host, "default"))["state"] == "failed"
    page = (await browser.get("/packages/sets/default")).text
    assert "The last installation failed. gamma: " in page
    assert "every script that names no set" in page
    assert "The set of packages default could not be installed" in (await browser.get("/")).text
    told = (await browser.get("/packages/sets/default/progress")).text
    assert "event: end" in told
    assert '"status": "failed"' in told
    assert (await browser.get("/packages/sets/none/progress")).status_code == 404


async def test_packages_are_searched_and_paged(host: Host, browse: Browse) -> None:
    browser = await browse(host)
    await allow(browser, "alpha\nbeta")
    await browser.act("/packages/allow", packages="@scope/alpha@^3", ecosystem="npm", set="web")
    for query, there, gone in (
        ("q=ALPH", ["alpha", "@scope/alpha"], ["beta"]),
        ("q=alph&ecosystem=npm", ["@scope/alpha"], [">alpha<"]),
        ("set=web", ["@scope/alpha"], ["<bdi>beta"]),
    ):
        page = (await browser.get(f"/packages?{query}")).text
        assert all(one in page for one in there), query
        assert not any(one in page for one in gone), query
    assert "No allowed package matches." in (await browser.get("/packages?q=%3Cb%3E")).text
    assert (await browser.get("/packages?after=x")).status_code == 422
    assert "/packages/sets/web" in (await browser.get("/packages/sets?q=we")).text


async def test_a_satellites_page_shows_its_sets_to_whoever_may_see_packages(
    host: Host, browse: Browse
) -> None:
    reader, other = await browse(host, rules=READ), await browse(host, rules=["host.plugin.read"])
    await allow(await browse(host), "alpha", set="web")
    async with client(host) as http:
        await Packages(http).install("web")
    page = (await reader.get(f"/satellites/{SATELLITE}")).text
    assert ("1.0 KiB of 4.0 KiB" in page, f"no room{SHOWN}" in page, "<img" in page) == (True, True, False)
    assert "KiB" not in (await reader.get("/satellites/another")).text
    assert "KiB" not in (await other.get(f"/satellites/{SATELLITE}")).text


async def test_nothing_is_shown_or_done_without_the_rules(host: Host, browse: Browse) -> None:
    await allow(await browse(host), "alpha", set="web")
    nobody, reader = await browse(host, rules=["host.plugin.read"]), await browse(host, rules=READ)
    pages = ["/packages", "/packages/sets", "/packages/sets/web", "/packages/sets/web/progress"]
    for path in pages:
        assert (await reader.get(path)).status_code == 200, path
        assert (await nobody.get(path)).status_code == 403, path
    assert 'href="/packages"' not in (await nobody.get("/")).text
    shown = "".join([(await reader.get(one)).text for one in pages])
    assert ('method="post" action="/packages' in shown, "Allow packages" in shown) == (False, False)
    for act in ("allow", "remove", "audit", "collect", "sets/web/install", "sets/web/delete"):
        assert (await reader.act(f"/packages/{act}")).status_code == 403, act
        assert (await reader.post(f"/packages/{act}", {"set": "web"})).status_code == 403, act
    assert "alpha" in (await reader.get("/find?q=alph")).text
    assert "alpha" not in (await nobody.get("/find?q=alph")).text
