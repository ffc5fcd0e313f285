"""The policy over HTTP, on a real host and a real database."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
import pytest
import pytest_asyncio
from ringfence.eventlog import read_stream
from ringfence.host import Host
from ringfence.sandbox.policy import MOST_ENTRIES
from ringfence.testing import client
from ringfence_script_packages.commands.policy import MOST_REVISIONS
from ringfence_script_packages.hooks import POLICY_STREAM
from sqlalchemy import text

from tests.shared_hosts import OWN, SHARED, shares

POLICY = "/api/script-packages/sandbox-policy"
DENY = {"network": {"mode": "deny"}}

pytestmark = SHARED


@pytest_asyncio.fixture(loop_scope="module")
async def shipped(http: httpx.AsyncClient) -> None:
    await http.put(POLICY, json={"policy": {}}, headers={"If-Match": "*"})


@pytest.fixture(autouse=True)
def _shipped(request: pytest.FixtureRequest) -> None:
    """On a host that is shared, every test begins with the shipped default, at some revision."""
    if shares(request):
        request.getfixturevalue("shipped")


async def now(http: httpx.AsyncClient) -> int:
    """The revision that the policy is at."""
    return int((await http.get(POLICY)).json()["revision"])


async def put(http: httpx.AsyncClient, policy: dict[str, Any], revision: int, **more: Any) -> httpx.Response:
    return await http.put(POLICY, json={"policy": policy, **more}, headers={"If-Match": f'"{revision}"'})


async def the_row(host: Host) -> str:
    async with host.runtime.database.sessions() as session:
        rows = await session.execute(text("SELECT plugin_configs::text FROM plugin_configs"))
        return str(rows.scalar_one())


@OWN
async def test_nobody_has_written_a_policy_so_the_shipped_default_holds(http: httpx.AsyncClient) -> None:
    answer = await http.get(POLICY)
    assert answer.status_code == 200
    assert answer.headers["etag"] == '"0"'
    body = answer.json()
    assert (body["revision"], body["updatedAt"], body["updatedBy"]) == (0, None, None)
    assert body["policy"]["network"] == {"mode": "allowlist", "allow": [], "denyLinkLocalAndMetadata": True}
    assert body["policy"]["enabled"] is True
    assert body["policy"]["onUnavailable"] == "fail"
    written = await put(http, {"enabled": True}, 0)
    assert (written.json()["revision"], written.json()["changed"]) == (0, False), "not over itself"


async def test_the_longest_allowlist_is_stored_and_a_longer_one_is_refused(http: httpx.AsyncClient) -> None:
    allow = [f"10.{n >> 8}.{n & 255}.0/24:443" for n in range(MOST_ENTRIES)]

    before = await now(http)
    stored = await put(http, {"network": {"allow": allow}}, before)
    refused = await put(http, {"network": {"allow": [*allow, "192.0.2.1"]}}, before + 1)

    assert stored.json()["policy"]["network"]["allow"] == allow
    assert refused.status_code == 422
    assert "16,385 entries are too many" in refused.json()["problems"][0]


async def test_a_write_tells_which_entries_stay_blocked(http: httpx.AsyncClient) -> None:
    allow = ["64:ff9b::169.254.169.254", "192.0.2.1:443", "169.254.0.1:80"]

    before = await now(http)
    answer = await put(http, {"network": {"allow": allow}}, before)

    first, second = answer.json()["notes"]
    assert first.startswith("The entry 64:ff9b::a9fe:a9fe stays blocked: link-local, and the metadata")
    assert "inside IPv6: NAT64" in first
    assert second.startswith("The entry 169.254.0.1:80 stays blocked: link-local")
    assert (await put(http, {"network": {"allow": ["192.0.2.1"]}}, before + 1)).json()["notes"] == []


async def test_put_lays_a_partial_policy_over_the_shipped_default(http: httpx.AsyncClient) -> None:
    before = await now(http)
    await put(http, {"network": {"mode": "unrestricted"}, "resources": {"cpuSeconds": 5}}, before)
    answer = await put(http, {"resources": {"cpuSeconds": 7}}, before + 1, reason="tighten")
    assert answer.status_code == 200
    assert answer.headers["etag"] == f'"{before + 2}"'
    body = answer.json()
    assert body["policy"]["resources"]["cpuSeconds"] == 7
    assert body["policy"]["network"]["mode"] == "allowlist", "a layer that was not named is as shipped"
    assert body["revision"] == before + 2
    assert body["updatedBy"].startswith("admin-")
    assert {**(await http.get(POLICY)).json(), "changed": True, "notes": []} == body


async def test_a_write_that_changes_nothing_makes_no_revision_and_says_so(
    host: Host, http: httpx.AsyncClient
) -> None:
    before = await now(http)
    first = (await put(http, DENY, before, reason="incident 7")).json()

    same = [
        await put(http, DENY, before + 1, reason="again"),
        await http.patch(POLICY, json={"policy": DENY}),
        await http.patch(POLICY, json={"policy": {}}, headers={"If-Match": "*"}),
        await http.post(f"{POLICY}/revert", json={"revision": before + 1}),
    ]

    assert [answer.status_code for answer in same] == [200] * 4
    assert [answer.headers["etag"] for answer in same] == [f'"{before + 1}"'] * 4
    assert [answer.json() for answer in same] == [{**first, "changed": False}] * 4
    assert (await put(http, DENY, before)).status_code == 412, "a precondition is checked all the same"
    async with host.runtime.database.sessions() as session:
        events = await read_stream(session, POLICY_STREAM)
    assert events[-1].version == before + 1


async def test_patch_lays_a_partial_policy_over_the_current_one(http: httpx.AsyncClient) -> None:
    before = await now(http)
    await put(http, {"network": {"mode": "deny"}, "resources": {"cpuSeconds": 5}}, before)
    answer = await http.patch(
        POLICY,
        json={"policy": {"resources": {"maxOpenFiles": 64}}},
        headers={"If-Match": f'"{before + 1}"'},
    )
    policy = answer.json()["policy"]
    assert policy["network"]["mode"] == "deny"
    assert (policy["resources"]["cpuSeconds"], policy["resources"]["maxOpenFiles"]) == (5, 64)


async def test_a_stale_revision_is_a_412_that_shows_the_current_policy(http: httpx.AsyncClient) -> None:
    before = await now(http)
    await put(http, DENY, before)
    current = (await http.get(POLICY)).json()
    answer = await put(http, {"network": {"mode": "unrestricted"}}, before)
    assert answer.status_code == 412
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.headers["etag"] == f'"{before + 1}"'
    assert current["policy"]["network"]["mode"] == "deny"
    assert answer.json()["current"] == current
    assert (await http.get(POLICY)).json() == current


async def test_of_two_writers_with_the_same_revision_one_wins(http: httpx.AsyncClient) -> None:
    before = await now(http)
    for turn in range(10):
        revision = before + turn
        answers = await asyncio.gather(
            *(put(http, {"resources": {"cpuSeconds": 4 * turn + n}}, revision) for n in range(1, 5))
        )
        assert sorted(answer.status_code for answer in answers) == [200, 412, 412, 412]
        [winner] = [answer for answer in answers if answer.status_code == 200]
        assert winner.json()["revision"] == revision + 1


async def test_many_writers_without_a_precondition_all_get_their_turn(http: httpx.AsyncClient) -> None:
    async def write(writer: int) -> list[int]:
        return [
            (
                await http.patch(
                    POLICY, json={"policy": {"resources": {"maxOpenFiles": 100 + 10 * writer + turn}}}
                )
            ).status_code
            for turn in range(4)
        ]

    before = await now(http)
    statuses = await asyncio.gather(*map(write, range(12)))
    assert {status for of_one in statuses for status in of_one} == {200}
    assert (await http.get(POLICY)).json()["revision"] == before + 48


async def test_writers_that_name_no_revision_are_all_recorded(http: httpx.AsyncClient) -> None:
    before = await now(http)
    answers = await asyncio.gather(
        *(http.patch(POLICY, json={"policy": {"resources": {"cpuSeconds": n}}}) for n in (1, 2, 3))
    )
    assert sorted(answer.json()["revision"] for answer in answers) == [before + n for n in (1, 2, 3)]


NOT_VALID: list[tuple[dict[str, Any], str]] = [
    ({"netwrk": {}}, "netwrk: unknown key"),
    ({"network": {"mode": "open"}}, "network.mode"),
    ({"network": {"allow": ["exa mple.com"]}}, "network.allow.0"),
    ({"resources": {"cpuSeconds": -1}}, "resources.cpuSeconds"),
    ({"network": None}, "network"),
]


async def test_a_policy_that_is_not_valid_is_refused_with_each_problem_named(http: httpx.AsyncClient) -> None:
    before = await now(http)
    for policy, said in NOT_VALID:
        answer = await put(http, policy, before)
        assert answer.status_code == 422, said
        assert said in answer.json()["detail"]
        assert await now(http) == before


async def test_history_says_who_changed_what_and_why(http: httpx.AsyncClient) -> None:
    before = await now(http)
    await put(http, DENY, before, reason="incident 7")
    await put(http, DENY | {"enabled": False}, before + 1)
    revisions = (await http.get(f"{POLICY}/history")).json()["revisions"]
    assert [one["revision"] for one in revisions[:2]] == [before + 2, before + 1]
    assert revisions[1]["reason"] == "incident 7"
    assert revisions[1]["changes"] == [{"path": "network.mode", "before": "allowlist", "after": "deny"}]
    assert revisions[0]["changes"] == [{"path": "enabled", "before": True, "after": False}]
    assert revisions[0]["actor"].startswith("admin-")
    as_many_as_the_command_asks_for = {"limit": MOST_REVISIONS}
    assert (await http.get(f"{POLICY}/history", params=as_many_as_the_command_asks_for)).status_code == 200
    page = (await http.get(f"{POLICY}/history", params={"before": before + 2, "limit": 1})).json()[
        "revisions"
    ]
    assert [one["revision"] for one in page] == [before + 1]


async def test_a_past_revision_can_be_read_compared_and_restored(http: httpx.AsyncClient) -> None:
    before = await now(http)
    one, two, three = before + 1, before + 2, before + 3
    await put(http, DENY, before)
    first = (await http.get(POLICY)).json()
    await put(http, {"network": {"mode": "unrestricted"}}, one)
    assert (await http.get(f"{POLICY}/history/{one}")).json() == first
    compared = (await http.get(f"{POLICY}/history/{two}", params={"compare": one})).json()
    assert compared["changes"] == [{"path": "network.mode", "before": "deny", "after": "unrestricted"}]
    restored = await http.post(f"{POLICY}/revert", json={"revision": one}, headers={"If-Match": f'"{two}"'})
    assert restored.json()["revision"] == three
    assert restored.json()["policy"] == first["policy"]
    shipped = await http.post(f"{POLICY}/revert", json={"revision": 0}, headers={"If-Match": f'"{three}"'})
    assert shipped.json()["policy"]["network"]["mode"] == "allowlist"
    assert (await http.post(f"{POLICY}/revert", json={"revision": 9999})).status_code == 404


async def test_reading_and_writing_need_the_access_rule_and_no_other_implies_it(
    host: Host, http: httpx.AsyncClient
) -> None:
    before = await now(http)
    rules = sorted(set(host.access.rules) - {"script-packages.script-sandbox.manage"})
    made = await http.post("/api/host/tokens", json={"name": "all but one", "rules": rules})
    async with client(host, token=made.json()["token"]) as other:
        assert (await other.get(POLICY)).status_code == 403
        assert (await put(other, DENY, before)).status_code == 403
        refused = await other.patch(POLICY, json={"policy": DENY})
        assert refused.status_code == 403
        assert "script-packages.script-sandbox.manage" in refused.json()["detail"]
    async with client(host, token="rft_wrong") as stranger:
        answer = await stranger.get(POLICY)
        assert answer.status_code == 401
        assert "Bearer" in answer.headers["www-authenticate"]
    assert await now(http) == before


async def test_the_row_is_made_again_from_the_stream_byte_for_byte(
    host: Host, http: httpx.AsyncClient
) -> None:
    first = await now(http)
    await put(http, DENY, first)
    policy = {"resources": {"cpuSeconds": 9}, "privilege": {"uid": 1234}}
    await put(http, policy, first + 1, reason="é\N{SNOWMAN}")
    before, answered = await the_row(host), (await http.get(POLICY)).json()
    async with host.runtime.database.sessions.begin() as session:
        await session.execute(text("DELETE FROM plugin_configs"))
    assert (await http.get(POLICY)).json() == answered, "a lost row does not stand for the shipped default"
    assert (await http.post(f"{POLICY}/rebuild")).json() == answered
    assert await the_row(host) == before
