"""What a change of the policy would do is told before it holds, and nothing is written by asking."""

from __future__ import annotations

from typing import Any

import httpx
import pytest
import pytest_asyncio
from ringfence import PluginContext, PluginInfo, hookimpl
from ringfence.eventlog import last_position
from ringfence.host import Host
from ringfence.testing import RunHost, client
from ringfence_script_packages import previewing
from ringfence_script_packages.plugin import ScriptPackagesPlugin
from ringfence_script_packages.service import Fate, PolicyPreviewer, ProposedPolicy, Prospect, Prospects

from tests.sandbox.hosts import linux, with_nothing
from tests.shared_hosts import SHARED, only_provider

POLICY = "/api/script-packages/sandbox-policy"
PREVIEW = f"{POLICY}/preview"
SHIPPED = pytest.mark.usefixtures("shipped")


@pytest.fixture(autouse=True)
def _on_linux(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(previewing, "probe", linux)


@pytest_asyncio.fixture(loop_scope="module")
async def shipped(http: httpx.AsyncClient) -> int:
    """The policy is the shipped default, at this revision."""
    answer = await http.put(POLICY, json={"policy": {}}, headers={"If-Match": "*"})
    return int(answer.json()["revision"])


async def preview(http: httpx.AsyncClient, **body: Any) -> dict[str, Any]:
    answer = await http.post(PREVIEW, json=body)
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


@SHARED
@SHIPPED
async def test_it_says_what_changes_and_what_becomes_looser_and_writes_nothing(
    http: httpx.AsyncClient, host: Host, shipped: int
) -> None:
    async with host.runtime.database.sessions() as session:
        before = await last_position(session)
    found = await preview(
        http, policy={"network": {"allow": ["10.0.0.5:443"]}, "resources": {"cpuSeconds": 1}}
    )
    assert {one["path"]: (one["before"], one["after"]) for one in found["changes"]} == {
        "network.allow": ([], ["10.0.0.5:443"]),
        "resources.cpuSeconds": (60, 1),
    }
    assert found["looser"] == ["network.allow: scripts may connect to 10.0.0.5:443"]
    assert (found["revision"], found["changed"], found["policy"]["resources"]["cpuSeconds"]) == (
        shipped,
        True,
        1,
    )
    assert (await http.get(POLICY)).json()["revision"] == shipped
    async with host.runtime.database.sessions() as session:
        assert await last_position(session) == before


@SHARED
@SHIPPED
async def test_a_change_is_laid_over_the_policy_or_over_the_default(http: httpx.AsyncClient) -> None:
    await http.patch(POLICY, json={"policy": {"network": {"mode": "deny"}}})
    over = await preview(http, policy={"resources": {"cpuSeconds": 1}})
    instead = await preview(http, policy={"resources": {"cpuSeconds": 1}}, replace=True)
    assert over["policy"]["network"]["mode"] == "deny"
    assert instead["policy"]["network"]["mode"] == "allowlist"


@SHARED
@SHIPPED
async def test_going_back_to_a_revision_is_foreseen_too(http: httpx.AsyncClient) -> None:
    await http.patch(POLICY, json={"policy": {"network": {"mode": "deny"}}})
    found = await preview(http, revision=0)
    assert [one["path"] for one in found["changes"]] == ["network.mode"]
    assert (await http.post(PREVIEW, json={"revision": 999})).status_code == 404


@SHARED
@SHIPPED
async def test_what_changes_nothing_is_said_to(http: httpx.AsyncClient) -> None:
    found = await preview(http, policy={"enabled": True})
    assert (found["changed"], found["changes"], found["looser"], found["breaks"]) == (False, [], [], 0)


@SHARED
@SHIPPED
async def test_it_is_of_the_revision_that_is_named_or_of_none(http: httpx.AsyncClient, shipped: int) -> None:
    await http.patch(POLICY, json={"policy": {"network": {"mode": "deny"}}})
    body = {"policy": {"enabled": False}}
    fits = await http.post(PREVIEW, json=body, headers={"If-Match": f'"{shipped + 1}"'})
    stale = await http.post(PREVIEW, json=body, headers={"If-Match": f'"{shipped}"'})
    assert (fits.status_code, stale.status_code) == (200, 412)
    assert fits.headers["etag"] == f'"{shipped + 1}"'
    assert stale.json()["current"]["revision"] == shipped + 1


CANNOT_BE: list[dict[str, Any]] = [
    {},
    {"policy": {}, "revision": 0},
    {"policy": {"network": {"mode": "open"}}},
    {"policy": {"network": {"allow": ["1.2.3.4.5"]}}},
    {"revision": -1},
    {"policy": {}, "replace": "yes"},
    {"policy": {}, "more": 1},
]


@SHARED
async def test_what_could_not_be_written_is_not_foreseen(http: httpx.AsyncClient) -> None:
    for body in CANNOT_BE:
        assert (await http.post(PREVIEW, json=body)).status_code == 422, body


@SHARED
@SHIPPED
async def test_only_who_may_change_the_policy_is_told(host: Host) -> None:
    async with client(host, rules=["host.event.read"]) as http:
        assert (await http.post(PREVIEW, json={"policy": {}})).status_code == 403


@SHARED
@SHIPPED
async def test_the_host_itself_is_among_those_that_may_not_enforce_it(
    http: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = await preview(http, policy={"network": {"mode": "unrestricted"}})
    assert found["breaks"] == 0
    monkeypatch.setattr(previewing, "probe", with_nothing)
    await http.patch(POLICY, json={"policy": {"enabled": False}})
    found = await preview(http, policy={"enabled": True})
    [here] = [one for one in found["prospects"] if one["kind"] == "instance"]
    assert (here["breaks"], here["named"][0]["fate"], here["named"][0]["was"]) == (1, "refused", "run")
    assert here["named"][0]["reasons"]


class Jobs:
    """A plugin of somebody else's with things that depend on the policy."""

    info = PluginInfo(id="jobs", version="1", requires=("script-packages",))

    def __init__(self, prospects: list[Prospect] | None) -> None:
        self.prospects = prospects
        self.asked: list[ProposedPolicy] = []

    @hookimpl
    async def init(self, context: PluginContext) -> None:
        context.services.extend(PolicyPreviewer, self)

    async def preview(self, proposed: ProposedPolicy) -> Prospects:
        self.asked.append(proposed)
        if self.prospects is None:
            raise RuntimeError("broken")
        return Prospects("job", self.prospects)


async def test_other_plugins_have_a_say_and_what_breaks_comes_first(
    run_host: RunHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    only_provider(monkeypatch)
    fine = [Prospect(f"fine-{n}", Fate.RUN, Fate.RUN) for n in range(300)]
    poor = [Prospect(f"poor-{n:03}", Fate.REFUSED, Fate.REFUSED) for n in range(150)]
    backup = Prospect("zz-backup", Fate.CUT_OFF, Fate.RUN, ["needs 10.0.0.5:22"] * 50, id="7")
    jobs = Jobs([*fine, *poor, backup])
    host = await run_host(plugins=[ScriptPackagesPlugin(), jobs])
    async with client(host) as http:
        found = await preview(http, policy={"network": {"mode": "deny"}})
    [told] = [one for one in found["prospects"] if one["kind"] == "job"]
    assert (told["total"], told["breaks"]) == (451, 1)
    assert told["fates"] == {"run": 300, "refused": 150, "cut-off": 1}
    assert told["named"][0] == {
        "name": "zz-backup",
        "id": "7",
        "fate": "cut-off",
        "was": "run",
        "breaks": True,
        "reasons": ["needs 10.0.0.5:22"] * previewing.MOST_REASONS,
    }
    assert len(told["named"]) == previewing.MOST_NAMED
    [asked] = jobs.asked
    assert (asked.before.network.mode, asked.after.network.mode) == ("allowlist", "deny")


async def test_a_plugin_that_fails_hides_nothing_that_others_know(
    run_host: RunHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    only_provider(monkeypatch)
    host = await run_host(plugins=[ScriptPackagesPlugin(), Jobs(None)])
    async with client(host) as http:
        found = await preview(http, policy={"network": {"mode": "deny"}})
    assert found["unforeseen"] == ["tests cannot say what the change would do: RuntimeError"]
    assert [one["kind"] for one in found["prospects"]] == ["instance"]
