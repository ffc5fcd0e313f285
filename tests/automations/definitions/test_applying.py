"""Automations over HTTP: what holds after a text was applied, who may do that, and what is told of it."""

from __future__ import annotations

import datetime as dt
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from ringfence.testing import Host, RunHost, client, eventually, installed
from ringfence_automations.runs.starting import TriggerFact

from tests.automations.definitions.samples import RESTART_WEB, SMALL

API = "/api/automations"
MANAGE, READ = "automations.automation.manage", "automations.automation.read"
SEE_CHECKS = "health-checks.check.read"
USE, RUN_THERE = "secrets.secret.use", "satellite.script.run"


@pytest.fixture
async def host(run_host: RunHost) -> Host:
    return await run_host(plugins=installed("automations", "health-checks"))


@pytest.fixture
async def admin(host: Host) -> AsyncIterator[httpx.AsyncClient]:
    async with client(host) as made:
        yield made


def rooms(host: Host) -> Any:
    """The rooms of the plugin: definitions, and then runs."""
    plugin: Any = next(one.plugin for one in host.plugins if one.info.id == "automations")
    return plugin.rooms


async def apply(api: httpx.AsyncClient, text: str, status: int = 200, **fields: Any) -> Any:
    answer = await api.post(f"{API}/apply", json={"text": text, **fields})
    assert answer.status_code == status, answer.text
    return answer.json()


async def test_the_example_works_as_it_stands_and_says_what_the_policy_lacks(
    admin: httpx.AsyncClient,
) -> None:
    refused = await apply(admin, RESTART_WEB, 422)
    assert [(one["line"], one["path"]) for one in refused["errors"]] == [(11, "steps[0].run_shell.secrets")]
    assert "there is no secret deploy" in refused["detail"]
    await admin.put("/api/secrets/secrets/deploy", json={"value": "hunter2-hunter2"})

    [made] = (await apply(admin, RESTART_WEB))["automations"]
    assert (made["name"], made["revision"], made["change"], made["enabled"]) == (
        "restart-web",
        1,
        "created",
        True,
    )
    [warning] = made["warnings"]
    assert (warning["line"], warning["path"]) == (10, "steps[0].run_shell.needs")
    assert "deploy.example.com:443" in warning["message"]
    script = made["definition"]["steps"][0]["run_shell"]["script"]
    assert '-H "Authorization: $DEPLOY_TOKEN" https://' in script
    users = (await admin.get("/api/secrets/secrets/deploy/users")).json()
    assert users["users"] == ["automation restart-web"]


async def test_what_is_so_already_makes_no_revision_and_a_dry_run_none_at_all(
    admin: httpx.AsyncClient,
) -> None:
    [told] = (await apply(admin, SMALL, dryRun=True))["automations"]
    assert (told["change"], told["before"]) == ("created", None)
    assert (await admin.get(f"{API}/automations/small")).status_code == 404

    await apply(admin, SMALL)
    [same] = (await apply(admin, f"# a comment\n{SMALL}"))["automations"]
    assert (same["change"], same["revision"]) == ("unchanged", 1)
    [told] = (await apply(admin, f"{SMALL}description: new\n", dryRun=True))["automations"]
    assert (told["change"], told["before"].get("description")) == ("updated", None)
    [updated] = (await apply(admin, f"{SMALL}description: new\n", reason="why not"))["automations"]
    assert (updated["change"], updated["revision"]) == ("updated", 2)
    history = (await admin.get(f"{API}/automations/small/revisions")).json()["revisions"]
    assert [(one["revision"], one["change"], one["reason"]) for one in history] == [
        (2, "updated", "why not"),
        (1, "created", None),
    ]


async def test_several_definitions_hold_all_or_none(admin: httpx.AsyncClient) -> None:
    two = f"{SMALL}---\n{SMALL.replace('small', 'other')}"
    assert [one["name"] for one in (await apply(admin, two))["automations"]] == ["small", "other"]
    bad = f"{SMALL}description: x\n---\n{SMALL.replace('small', 'third').replace('stop', 'stpo')}"
    refused = await apply(admin, bad, 422)
    assert [(one["line"], one["message"]) for one in refused["errors"]] == [
        (8, "there is no kind of step stpo: did you mean stop?")
    ]
    listed = (await admin.get(f"{API}/automations")).json()["automations"]
    assert [(one["name"], one["revision"], one["description"]) for one in listed] == [
        ("other", 1, None),
        ("small", 1, None),
    ]
    page = (await admin.get(f"{API}/automations", params={"limit": 1})).json()
    assert page["next"] == "other"
    await apply(admin, f"{SMALL}---\n{SMALL}", 422)


async def test_one_is_put_by_its_name_at_the_revision_that_was_read(admin: httpx.AsyncClient) -> None:
    address = f"{API}/automations/small"
    made = await admin.put(address, content=SMALL, headers={"If-Match": '"0"'})
    assert (made.status_code, made.headers["ETag"]) == (200, '"1"')
    as_json = '{"name": "small", "description": "a\\ud83d\\ude00", "steps": [{"stop": {}}]}'
    for expected, status in (("0", 412), ("2", 412), ("x", 400), ("1", 200), ("1", 412), ("*", 200)):
        answer = await admin.put(address, content=as_json, headers={"If-Match": expected})
        assert answer.status_code == status, answer.text
    shown = await admin.get(address)
    assert (shown.headers["ETag"], shown.json()["definition"]["description"]) == ('"2"', "a😀")
    assert (await admin.put(f"{API}/automations/other", content=SMALL)).status_code == 422
    assert (await admin.put(address, content=b"\xff")).status_code == 422


async def test_revisions_count_on_over_deleting_and_enabling(admin: httpx.AsyncClient) -> None:
    address = f"{API}/automations/small"
    await apply(admin, SMALL)
    assert (await admin.post(f"{address}/disable")).json()["enabled"] is False
    assert (await admin.post(f"{address}/disable")).json()["change"] == "unchanged"
    # A definition that says nothing of it leaves that alone.
    [same] = (await apply(admin, SMALL))["automations"]
    assert (same["change"], same["enabled"]) == ("unchanged", False)
    [on] = (await apply(admin, f"{SMALL}enabled: true\n"))["automations"]
    assert (on["revision"], on["enabled"]) == (3, True)
    assert (await admin.delete(address, headers={"If-Match": "1"})).status_code == 412
    assert (await admin.delete(address)).status_code == 204
    assert (await admin.delete(address)).status_code == 404
    assert (await admin.post(f"{address}/enable")).status_code == 404
    [again] = (await apply(admin, SMALL))["automations"]
    assert (again["revision"], again["change"]) == (5, "created")
    history = (await admin.get(f"{address}/revisions")).json()["revisions"]
    assert [one["change"] for one in history] == ["created", "deleted", "updated", "updated", "created"]
    assert (await admin.get(f"{API}/automations/nobody/revisions")).status_code == 404


async def test_an_automation_may_do_what_whom_it_acts_for_may(host: Host, admin: httpx.AsyncClient) -> None:
    await admin.put("/api/secrets/secrets/deploy", json={"value": "hunter2-hunter2"})
    cases: list[tuple[list[str], list[str]]] = [
        ([], [f"does not hold the access rule {RUN_THERE}", f"does not hold the access rule {USE}"]),
        ([USE], [f"does not hold the access rule {RUN_THERE}"]),
        ([USE, f"{RUN_THERE} on role=gateway"], []),
    ]
    for number, (rules, wanted) in enumerate(cases):
        async with client(host, name=f"ann-{number}", rules=[MANAGE, SEE_CHECKS, *rules]) as ann:
            answer = await ann.post(f"{API}/apply", json={"text": RESTART_WEB})
            assert answer.status_code == (403 if wanted else 200), answer.text
            assert all(one in answer.json().get("detail", "") for one in wanted)
    async with client(host, name="reader", rules=[READ]) as reader:
        assert (await reader.post(f"{API}/apply", json={"text": SMALL})).status_code == 403
        assert (await reader.get(f"{API}/automations/restart-web")).json()["actsFor"] == "ann-2"


async def test_nobody_waits_for_events_that_they_may_not_see(host: Host) -> None:
    inner = "{steps: [{wait: {event: {hook: health-state-changed}}}], over: '[1]', as: one}"
    text = f"name: nosy\nsteps:\n  - repeat: {inner}\n"
    async with client(host, name="nosy", rules=[MANAGE]) as nosy:
        refused = await apply(nosy, text, 403)
        assert "steps[0].repeat.steps[0].wait.event.hook" in refused["detail"]
        assert f"does not hold the access rule {SEE_CHECKS}" in refused["detail"]
    async with client(host, name="seeing", rules=[MANAGE, SEE_CHECKS]) as seeing:
        await apply(seeing, text)


async def test_who_tries_an_automation_may_see_it_and_not_start_a_disabled_one(
    host: Host, admin: httpx.AsyncClient
) -> None:
    await apply(admin, SMALL)
    path = f"{API}/automations/small/try"
    async with client(host, name="runner", rules=["automations.automation.run"]) as runner:
        refused = await runner.post(path, json={})
        assert (refused.status_code, refused.json()["rule"]) == (403, READ)
    await admin.post(f"{API}/automations/small/disable")
    assert (await admin.post(path, json={})).json()["starts"] is True
    assert (await admin.post(path, json={"forReal": True})).status_code == 409
    assert (await admin.get(f"{API}/runs")).json()["runs"] == []


async def test_nobody_has_an_automation_act_for_one_who_holds_more(
    host: Host, admin: httpx.AsyncClient
) -> None:
    as_ann = f"{SMALL}runAs: ann\n"
    async with client(host, name="ann", rules=[MANAGE, USE]), client(host, name="bob", rules=[MANAGE]) as bob:
        refused = (await bob.post(f"{API}/apply", json={"text": as_ann})).json()
        assert refused["detail"] == f"4:8: runAs: bob does not hold all that ann holds: {USE}"
        [made] = (await apply(admin, as_ann))["automations"]
        assert made["actsFor"] == "ann"
        # Who changes it has it act for themselves, unless they may say for whom.
        [taken] = (await apply(bob, f"{SMALL}description: bob's\n"))["automations"]
        # Nor does who may write see what others have written.
        assert taken["before"] is None
        assert (await bob.post(f"{API}/automations/small/disable")).json()["definition"] is None
        assert (await bob.post(f"{API}/automations/small/enable")).json()["enabled"] is True
        assert (taken["actsFor"], taken["revision"]) == ("bob", 2)
    assert (
        "there is no live API token nobody" in (await apply(admin, f"{SMALL}runAs: nobody\n", 403))["detail"]
    )


async def test_a_new_token_of_the_same_name_inherits_no_automation(
    host: Host, admin: httpx.AsyncClient
) -> None:
    definitions = rooms(host)[0]
    async with client(host, name="ann", rules=[MANAGE, USE]) as ann:
        await apply(ann, SMALL)
    await definitions.acting_for((await definitions.current())["small"])
    await host.access.revoke("ann")
    async with client(host, name="ann", rules=[MANAGE]) as ann:
        with pytest.raises(RuntimeError, match="the API token ann, for which small acts, has been revoked"):
            await definitions.acting_for((await definitions.current())["small"])
        [again] = (await apply(ann, SMALL))["automations"]
        assert (again["change"], again["revision"]) == ("updated", 2)
        async with host.runtime.database.sessions() as session:
            newest = await definitions.at(session, "small", 2)
        principal = await definitions.acting_for(newest)
        assert (principal.name, principal.rules) == ("ann", frozenset({MANAGE}))


async def test_a_revision_stays_what_it_was(host: Host, admin: httpx.AsyncClient) -> None:
    definitions = rooms(host)[0]
    await apply(admin, SMALL)
    await apply(admin, f"{SMALL}description: new\n")
    await admin.delete(f"{API}/automations/small")
    async with host.runtime.database.sessions() as session:
        first = await definitions.at(session, "small", 1)
        second = await definitions.at(session, "small", 2)
        assert await definitions.at(session, "small", 9) is None
    assert (first.definition.description, second.definition.description) == (None, "new")


async def test_what_was_applied_runs_as_it_was_then(host: Host, admin: httpx.AsyncClient) -> None:
    text = SMALL.replace("stop: {}", "stop: {message: 'by {{ trigger.kind }}, revision {{ run.revision }}'}")
    await apply(admin, text)
    _definitions, runs = rooms(host)[:2]
    async with host.runtime.database.sessions.begin() as session:
        fact = TriggerFact(kind="manual", time=dt.datetime.now(dt.UTC))
        started = await runs.engine.start(session, "small", 1, trigger=fact, event={}, inputs={})
    await apply(admin, SMALL)
    address = f"{API}/runs/{started}"

    async def ended() -> Any:
        run = (await admin.get(address)).json()
        return run if run["status"] not in ("queued", "running") else None

    run = await eventually(ended)
    assert (run["status"], run["revision"]) == ("succeeded", 1)
    assert run["message"] == "by manual, revision 1"
