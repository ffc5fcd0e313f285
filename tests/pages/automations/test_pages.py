"""The pages of automations and runs on a real host: who sees what, each form right and wrong, and hostile words."""

from __future__ import annotations

import datetime as dt
import re
import uuid
from typing import Any

from ringfence.host import Host
from ringfence.pages import Panel, View
from ringfence.testing import RunHost, client, eventually, installed
from ringfence.web import Principal
from sqlalchemy import text

from tests.pages.automations.conftest import MANAGE, READ, RUN, World, run_in
from tests.pages.automations.samples import GREET, HOOKED, REFUSED, SLOW, WATCHED
from tests.pages.conftest import Browse

LEADS = ("/automations/new", "/edit", "/try", "/delete", "/disable", "/run", "/webhook")


async def test_who_sees_what(world: World, browse: Browse) -> None:
    await world.apply(GREET, HOOKED)
    run = await world.run("greet", times=1)
    pages = ["/automations", "/automations/greet", "/automations/greet/history", "/runs", f"/runs/{run}"]
    writes = ["/automations/new", "/automations/greet/edit"]
    for path in [*pages, *writes, "/automations/greet/try"]:
        assert (await world.boss.get(path)).status_code == 200, path
    for path in pages:
        shown = await world.reader.get(path)
        assert shown.status_code == 200, path
        assert not re.search(r"<form method=\"post\" action=\"/(automations|runs)", shown.text), path
        assert not any(
            f'href="{lead}' in shown.text for lead in ("/automations/new", "/automations/greet/edit")
        )
        refused = await world.nobody.get(path)
        assert refused.status_code == 403, path
        assert READ in refused.text
    for path in [*writes, "/automations/greet/try"]:
        assert (await world.reader.get(path)).status_code == 403
    csrf = {"csrf": await world.reader.csrf()}
    forms = [
        "/automations/new",
        *(f"/automations/greet/{what}" for what in ("edit", "try", "run", "enable", "disable", "delete")),
        "/automations/hooked/webhook",
        "/automations/hooked/webhook/remove",
        f"/runs/{run}/cancel",
        f"/runs/{run}/again",
    ]
    for path in forms:
        assert (await world.reader.post(path, csrf)).status_code == 403, path
        out_of_date = await world.boss.post(path, {"csrf": "x"})
        assert out_of_date.status_code == 403, path
        assert "out of date" in out_of_date.text
    # Who may change or run automations, and not see them, is shown none of them.
    blind = await browse(world.host, rules=[MANAGE, RUN])
    for path in ("/automations/greet/edit", "/automations/greet/try", "/automations/greet"):
        assert (await blind.get(path)).status_code == 403
    for path in ("/automations/hooked/webhook", "/automations/greet/run", "/automations/greet/try"):
        refused = await blind.act(path)
        assert refused.status_code == 403
        assert "echo" not in refused.text
    for path in ("/automations/none", "/automations/A%00b", "/runs/x", f"/runs/{uuid.uuid4()}"):
        assert (await world.boss.get(path)).status_code == 404, path
    navigation = (await world.boss.get("/")).text
    assert 'href="/automations"' in navigation
    assert 'href="/automations"' not in (await world.nobody.get("/")).text


async def test_automations_are_listed_searched_and_shown(world: World) -> None:
    assert "There is no automation yet." in (await world.boss.get("/automations")).text
    await world.apply(GREET, HOOKED)
    page = (await world.boss.get("/automations")).text
    assert page.index(">greet<") < page.index(">hooked<")
    assert "automation-changed if event.name == &#34;watched&#34;" in page
    for words, found in (("greets some", "greet"), ("webhook", "hooked"), ("0 3 *", "hooked")):
        page = (await world.boss.get(f"/automations?q={words}")).text
        assert [one for one in ("greet", "hooked") if f"<bdi>{one}</bdi></a>" in page] == [found]
    for words in ("%", "_", "\\", "nothing", "' OR 1=1 --"):
        page = (await world.boss.http.get("/automations", params={"q": words})).text
        assert "No automation matches." in page, words
    run = await world.run("greet", times=2)
    assert await world.ended(run) == "succeeded"
    page = await world.shows("/automations", f'href="/runs/{run}"')
    assert '<span class="state good">succeeded</span>' in page
    page = (await world.boss.get("/automations/hooked")).text
    for words in ("otherwise", "branch 1", "for each one", "until 1ms have passed", "3 at once"):
        assert words in page, words
    assert "by hand" in (await world.boss.get("/automations/greet")).text
    await world.api.post("/api/automations/automations/greet/disable", params={"reason": "<b>why</b>"})
    page = (await world.boss.get("/automations/greet/history")).text
    assert "+ enabled: false" in page
    assert "&lt;b&gt;why&lt;/b&gt;" in page
    edits = re.findall(r"/automations/greet/edit\?revision=(\d+)", page)
    assert edits == [str(number) for number in range(len(edits), 0, -1)]
    assert edits
    assert (
        f'<th scope="row" role="rowheader">{len(edits) + 1} <span class="state good">current</span>' in page
    )
    assert ">disabled<" in (await world.boss.get("/automations?show=disabled")).text
    assert "<bdi>greet</bdi></a>" not in (await world.boss.get("/automations?show=enabled")).text


async def test_definitions_are_written_checked_tried_and_saved(world: World) -> None:
    boss = world.boss
    wrong = GREET.replace("run_shell", "run_shel").replace("type: integer", "type: int")
    refused = await boss.act("/automations/new", text=wrong, do="save")
    assert refused.status_code == 422
    assert "line 7, column" in refused.text
    assert "run_shel" in refused.text
    assert "name: greet" in refused.text
    assert (await boss.get("/automations/greet")).status_code == 404
    for do in ("check", "try"):
        told = await boss.act("/automations/new", text=GREET, do=do, **{"input-times": "1"})
        assert told.status_code == 200, told.text
    assert "it would start" in told.text
    assert (await boss.get("/automations/greet")).status_code == 404
    saved = await boss.act("/automations/new", text=GREET.replace("\n", "\r\n"), do="save", reason="new")
    assert saved.headers["location"] == "/automations/greet"
    again = await boss.act("/automations/new", text=GREET, do="save")
    assert again.status_code == 412
    assert "Choose another name" in again.text
    page = (await boss.get("/automations/greet/edit")).text
    assert 'name="revision" value="1"' in page
    assert "RINGFENCE_INPUT_WHOM" in page
    changed = GREET.replace("greets somebody", "greets everybody")
    renamed = await boss.act(
        "/automations/greet/edit", text=changed.replace("greet\n", "other\n"), revision="1"
    )
    assert renamed.status_code == 422
    assert "the name must be greet" in renamed.text
    await world.apply(GREET.replace("somebody", "people"))
    stale = await boss.act("/automations/greet/edit", text=changed, revision="1", do="save")
    assert stale.status_code == 412
    assert "greets everybody" in stale.text
    assert 'name="revision" value="2"' in stale.text
    saved = await boss.act("/automations/greet/edit", text=changed, revision="2", do="save")
    assert saved.headers["location"] == "/automations/greet"
    before = (await boss.get("/automations/greet/edit?revision=2")).text
    assert "greets people" in before
    assert (await boss.get("/automations/greet/edit?revision=99")).status_code == 404
    assert (await boss.get("/automations/greet/edit?revision=x")).status_code == 422
    secret = "name: s\nsteps: [{run_shell: {script: x, secrets: {A: '{{ secrets.none }}'}}}]"
    refused = await boss.act("/automations/new", text=secret, do="save")
    assert "there is no secret none" in refused.text
    warned = await boss.act(
        "/automations/new", text="name: n\nsteps: [{notify: {channel: no, text: x}}]", do="check"
    )
    assert "line 2, column" in warned.text
    assert "there is no channel no" in warned.text
    schema = (await boss.get("/automations/new/schema")).json()
    assert "run_shell" in schema["$defs"]["Step"]["properties"]


async def test_automations_are_tried(world: World) -> None:
    boss = world.boss
    await world.apply(HOOKED, WATCHED)
    path = "/automations/hooked/try"
    assert "With a sample event" in (await boss.get(path)).text
    told = await boss.act(path, do="see", trigger="1")
    assert told.status_code == 200
    assert "it would start" in told.text
    assert "Trigger 1 matches." in told.text
    assert "automation-changed has happened" in told.text
    told = await boss.act(path, do="see", payload='{"name": "other"}')
    assert "No trigger matches this event." in told.text
    events = (await world.api.get("/api/host/events", params={"stream": "automation.watched"})).json()
    position = str(events["events"][0]["position"])
    told = await boss.act(path, do="see", position=position)
    assert "it would start" in told.text
    for wrong, why in (
        ({"payload": "{"}, "the event is not valid JSON"),
        ({"payload": "[]"}, "must be a JSON object"),
        ({"position": "x"}, "must be a number"),
        ({"position": "99999999"}, "there is no event 99999999"),
        ({"trigger": "9"}, "has 3 triggers"),
        ({"position": "1", "payload": "{}"}, "not both"),
    ):
        refused = await boss.act(path, do="see", **wrong)
        assert refused.status_code == 422, wrong
        assert why in refused.text
    runs = (await world.api.get("/api/automations/runs", params={"automation": "hooked"})).json()["runs"]
    done = await boss.act(path, do="real", position=position)
    assert run_in(done) not in str(runs)
    assert await world.ended(run_in(done)) == "failed"
    not_done = await boss.act(path, do="real", payload='{"name": "other"}')
    assert not_done.status_code == 422
    assert "It was not done" in not_done.text


async def test_automations_are_run_with_inputs_disabled_and_deleted(world: World) -> None:
    boss = world.boss
    await world.apply(GREET, HOOKED, SLOW)
    page = (await boss.get("/automations/greet")).text
    assert re.search(r'name="input-whom"[^>]* value="world"', page)
    refused = await boss.act("/automations/greet/run", **{"input-times": "two", "input-whom": "<i>x</i>"})
    assert refused.status_code == 422
    assert "Write a whole number, such as 3." in refused.text
    assert 'value="&lt;i&gt;x&lt;/i&gt;"' in refused.text
    started = await boss.act("/automations/greet/run", **{"input-times": "2", "input-whom": "ann"})
    assert await world.ended(run_in(started)) == "succeeded"
    page = await world.shows(f"/runs/{run_in(started)}", "hello ann\nhello ann")
    assert "exit status <bdi>0</bdi>" in page
    assert "What was enforced" in page
    first = run_in(await boss.act("/automations/slow/run"))
    skipped = await boss.act("/automations/slow/run")
    assert skipped.status_code == 409
    assert "another run is under way" in skipped.text
    page = await world.shows(f"/runs/{first}", "These running steps are stopped")
    assert 'hx-trigger="every 1s"' in page
    assert ">1 running<" in (await boss.get("/automations/slow")).text
    cancelled = await boss.act(f"/runs/{first}/cancel")
    assert cancelled.headers["location"] == f"/runs/{first}"
    assert await world.ended(first) == "cancelled"
    page = (await boss.get(f"/runs/{first}")).text
    assert "every 1s" not in page
    assert "Cancelled" in page
    again = await boss.act(f"/runs/{first}/again")
    second = run_in(again)
    assert second != first
    kept = await boss.act("/automations/slow/disable", reason="a while")
    assert kept.headers["location"] == "/automations/slow"
    assert "Enable it to run it" in (await boss.get("/automations/slow")).text
    assert (await boss.act("/automations/slow/run")).status_code == 409
    assert (await boss.act(f"/runs/{first}/again")).status_code == 409
    assert (await boss.act("/automations/slow/enable")).status_code == 303
    assert (await boss.act("/automations/slow/delete", cancel="yes")).headers["location"] == "/automations"
    assert await world.ended(second) == "cancelled"
    assert (await boss.get("/automations/slow")).status_code == 404
    assert "is deleted" in (await boss.get("/automations/slow/history")).text
    assert (await boss.get(f"/runs/{first}")).status_code == 200
    assert (await boss.act("/automations/slow/delete")).status_code == 404
    made = await boss.act("/automations/hooked/webhook")
    assert made.status_code == 201
    secret = re.search(r"/api/automations/hooks/(rfh_[\w-]{20,})", made.text)
    assert secret is not None
    page = (await boss.get("/automations/hooked")).text
    assert secret[1] not in page
    assert "rfh_••••" in page
    used = await world.api.post(f"/api/automations/hooks/{secret[1]}", json={})
    assert used.status_code == 202
    assert (await boss.act("/automations/hooked/webhook")).status_code == 201
    assert (await world.api.post(f"/api/automations/hooks/{secret[1]}", json={})).status_code == 404
    assert (await boss.act("/automations/hooked/webhook/remove")).status_code == 303
    assert (await boss.act("/automations/hooked/webhook/remove")).status_code == 404
    assert (await boss.act("/automations/greet/webhook")).status_code == 409


SAYS = 'printf %s "$RINGFENCE_INPUT_WHAT"; exit 1'
HOSTILE = "<script>alert(1)</script>'\"><img src=x onerror=alert(1)> invoice\u202efdp {{ 7 * 7 }}"


async def test_what_others_have_written_is_text_and_never_markup(world: World) -> None:
    """Names of steps are bounded; descriptions, outputs, messages, events, reasons and inputs are not."""
    boss = world.boss
    definition = {
        "name": "hostile",
        "description": HOSTILE,
        "inputs": {"what": {"description": HOSTILE, "default": HOSTILE}},
        "triggers": [{"webhook": {}, "filter": f"event.body == {HOSTILE!r} || true"}],
        "steps": [
            {"id": "says", "run_shell": {"script": SAYS}, "continueOnError": True},
            {"stop": {"status": "failed", "message": "{{ inputs.what }}"}},
        ],
    }
    put = await world.api.put(
        "/api/automations/automations/hostile", json=definition, params={"reason": "<script>why</script>"}
    )
    assert put.status_code == 200, put.text
    run = await world.run("hostile", what=HOSTILE)
    assert await world.ended(run) == "failed"
    await world.shows(f"/runs/{run}", "Last output")
    tried = await boss.act("/automations/hostile/try", do="see", **{"input-what": HOSTILE})
    broken = await boss.act("/automations/new", text=HOSTILE * 3, do="save")
    again = await boss.act("/automations/hostile/run", **{"input-what": HOSTILE})
    listed = await boss.get("/runs?automation=hostile")
    pages = [
        tried,
        broken,
        listed,
        await boss.get(again.headers["location"]),
        *[
            await boss.get(path)
            for path in (
                "/automations",
                "/automations/hostile",
                "/automations/hostile/edit",
                "/automations/hostile/history",
                "/automations/hostile/try",
                f"/runs/{run}",
                "/",
            )
        ],
        await boss.http.get("/automations", params={"q": HOSTILE}),
        await boss.http.get("/runs", params={"automation": HOSTILE}),
    ]
    step = re.search(rf"/runs/{run}/steps/\d+", pages[-4].text)
    assert step is not None
    pages.append(await boss.get(step[0]))
    for page in pages:
        assert page.status_code in (200, 422), page.url
        assert "<script>alert" not in page.text, page.url
        assert "<script>why" not in page.text
        assert "<img src=x" not in page.text, page.url
        assert "49" not in re.findall(r"fdp (\S+)", page.text)
    assert "&lt;script&gt;alert(1)" in pages[-1].text
    assert "\u202e" not in pages[-1].text


async def test_the_overview_and_the_palette_know_of_automations(world: World) -> None:
    boss = world.boss
    await world.apply(GREET, REFUSED, SLOW.replace("steps:", "mode: queued\nsteps:"))
    failed = await world.run("broken")
    assert await world.ended(failed) == "failed"
    page = await world.shows("/", "The last run of broken failed")
    assert f'href="/runs/{failed}"' in page
    assert "runs in the last hour" in page
    await world.run("slow")
    waits = await world.run("slow")
    async with world.host.database.sessions.begin() as session:
        await session.execute(
            text("UPDATE automations_runs SET created_at = now() - interval '1 hour' WHERE id = :id"),
            {"id": uuid.UUID(waits)},
        )
        await session.execute(
            text("UPDATE automations_steps SET error = 'refused by the sandbox: no' WHERE run_id = :id"),
            {"id": uuid.UUID(failed)},
        )
    page = await world.shows("/", "1 run of slow wait")
    assert "Step fails of broken: refused by the sandbox: no." in page
    assert "broken" not in (await world.nobody.get("/")).text
    found = (await boss.get("/find?q=gree")).json()["found"]
    assert {"words": "greet", "to": "/automations/greet", "kind": "automation"} in found
    assert (await boss.get("/find?q=run gree")).json()["found"][0]["words"] == "Run greet"
    assert "Run greet" not in str((await world.reader.get("/find?q=greet")).json())
    assert (await world.nobody.get("/find?q=greet")).json() == {"found": []}
    assert f"/runs/{failed}" in str((await boss.get(f"/find?q={failed}")).json())
    page = (await boss.get("/runs?status=failed")).text
    assert failed[:8] in page
    assert waits[:8] not in page
    assert (await boss.get("/runs?status=odd")).status_code == 422
    assert "No run matches." in (await boss.get("/runs?automation=none")).text


async def test_a_run_leads_to_the_event_that_started_it_for_whoever_may_see_that(
    world: World, browse: Browse
) -> None:
    await world.apply(HOOKED)
    await world.apply(WATCHED)
    page = await world.shows("/runs?automation=hooked", "event automation-changed")
    found = re.search(r'href="(/runs/[0-9a-f-]{36})"', page)
    assert found is not None
    assert await world.ended(found[1].removeprefix("/runs/")) == "failed"
    page = (await world.boss.get(found[1])).text
    assert "automation-changed has happened" in page
    log = re.search(r'href="(/events\?after=\d+)"', page)
    assert log is not None
    assert "automation.watched" in (await world.boss.get(log[1])).text.split("</tr>")[1]
    assert log[1] not in (await world.reader.get(found[1])).text
    # One who holds the rule of automations sees its event, since that is what the hook asks for.
    assert "The event" in (await world.reader.get(found[1])).text
    id = found[1].removeprefix("/runs/")
    runner = await browse(world.host, rules=[READ, RUN])
    async with world.host.database.sessions.begin() as session:
        changed = """UPDATE automations_runs SET event = '{"word": "hidden-word"}',
                     trigger = '{"kind": "hook", "hook": "satellite-connected", "time": ""}' WHERE id = :id"""
        await session.execute(text(changed), {"id": uuid.UUID(id)})
    assert "hidden-word" in (await world.boss.get(found[1])).text
    page = (await runner.get(found[1])).text
    assert "You may not see the event" in page
    assert "hidden-word" not in page
    assert "Start again" not in page
    assert (await runner.act(f"/runs/{id}/again")).status_code == 403
    again = await world.boss.act(f"/runs/{id}/again")
    assert run_in(again) != id
    for number in ("0", "x", "99999999999999999999"):
        assert (await world.boss.get(f"{found[1]}/steps/{number}")).status_code in (400, 404, 422)


def panels_of(host: Host) -> dict[str, Panel]:
    plugin: Any = next(one.plugin for one in host.plugins if one.info.id == "automations")
    return {panel.name: panel for panel in plugin.pages().panels}


async def nobody() -> None:
    return None


def view_of(id: str) -> View:
    return View(
        principal=Principal("test", frozenset()),
        parameters={"id": id},
        query={},
        peer="",
        session="",
        token="",
        now=dt.datetime.now(dt.UTC),
        rights=nobody,
    )


async def test_a_satellite_tells_which_steps_ran_on_it(world: World) -> None:
    await world.apply(SLOW)
    run, satellite = await world.run("slow"), uuid.uuid4()
    panels = panels_of(world.host)
    view = view_of(str(satellite))
    assert await panels["steps"].show(view) is None
    async with world.host.database.sessions.begin() as session:
        await session.execute(
            text("""
                INSERT INTO automations_elsewhere (run_id, path, attempt, automation, revision, frame, secrets,
                                                   selected, at_once, may_fail, deliver_within, deadline)
                VALUES (:run, 'look', 1, 'slow', 1, '', '', false, 1, 0, 1, now())
            """),
            {"run": uuid.UUID(run)},
        )
        await session.execute(
            text("""
                INSERT INTO automations_places (run_id, path, attempt, place, satellite_id, name, satellite_run, state)
                VALUES (:run, 'look', 1, 0, :satellite, 'sat-1', :satellite, 'asked')
            """),
            {"run": uuid.UUID(run), "satellite": satellite},
        )
    shown = await panels["steps"].show(view)
    assert shown is not None
    assert [(str(one["run_id"]), one["path"], one["automation"]) for one in shown["steps"]] == [
        (run, "look", "slow")
    ]


async def test_a_check_tells_which_automations_it_can_start(run_host: RunHost) -> None:
    host = await run_host(plugins=installed("automations", "notifications", "health-checks"))
    panel = panels_of(host)["automations"]
    async with client(host) as api:
        check = {
            "name": "shop",
            "system": "web-1",
            "kind": "shell",
            "script": "exit 0",
            "intervalSeconds": 3600,
            "timeoutSeconds": 10,
            "runsOn": {"core": True},
        }
        made = await api.post("/api/health-checks/checks", json=check)
        assert made.status_code == 201, made.text
        id = made.json()["id"]
        assert (await panel.show(view_of(id)) or {})["automations"] == []
        texts = [
            f"name: {name}\ntriggers: [{{hook: health-state-changed, filter: '{filter}'}}]\nsteps: [{{stop: {{}}}}]\n"
            for name, filter in (
                ("a-all", 'event.status == "unhealthy"'),
                ("b-shop", f'event.checkId == "{id}"'),
                ("c-other", 'event.checkId == "00000000-0000-4000-8000-000000000000"'),
                ("d-words", 'event.message.contains("disk")'),
            )
        ]
        applied = await api.post("/api/automations/apply", json={"text": "---\n".join(texts)})
        assert applied.status_code == 200, applied.text

        async def told() -> bool:
            shown = await panel.show(view_of(id)) or {}
            return [(one["name"], one["is_certain"]) for one in shown["automations"]] == [
                ("a-all", True),
                ("b-shop", True),
                ("d-words", False),
            ]

        await eventually(told)
