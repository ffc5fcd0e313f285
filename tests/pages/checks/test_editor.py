"""A check is written in the browser: as a form or as JSON, with what is wrong beside each field, and tried."""

from __future__ import annotations

import html
import json
import re

from ringfence_health_checks.catalogue import names, ready
from ringfence_health_checks.definitions.definition import Definition
from ringfence_health_checks.pages.form import definition_of, fits, of_ready, of_wire, to_wire

from tests.pages.checks.conftest import MANAGE, Fleet, fields_of
from tests.pages.conftest import Browse
from tests.pages.test_pages import HOSTILE

FULL = {
    "name": "full",
    "system": "web-1",
    "kind": "python",
    "script": "\nprint('fine')\n\n",
    "args": ["a b", "--x={check.name}"],
    "env": {"LEVEL": "a=b"},
    "secrets": {"DB": "{db-password}@{host}"},
    "stdin": "given\n",
    "format": "json",
    "assertions": ["json.$.a < 3", "latencyMs < 500ms else degraded"],
    "keepState": True,
    "needs": {"network": ["example.org:443"]},
    "packages": "standard",
    "cron": "*/5 * * * *",
    "timezone": "Europe/Berlin",
    "timeoutSeconds": 12.5,
    "runsOn": {"core": True, "tags": ["env=prod"], "selector": "env=prod,role in (web)"},
    "enabled": False,
    "failuresBeforeAlarm": 3,
    "successesBeforeRecovery": 2,
    "flapping": None,
}


def test_a_form_means_the_check_that_it_was_made_from() -> None:
    for wire in (
        FULL,
        {
            **FULL,
            "script": None,
            "command": ["/bin/true", "x"],
            "kind": "program",
            "format": None,
            "assertions": [],
        },
    ):
        check = Definition.model_validate(
            {key: value for key, value in wire.items() if value is not None or key == "flapping"}
        )
        assert definition_of(to_wire(of_wire(check.to_wire()))) == check


def test_each_check_of_the_catalogue_makes_a_check() -> None:
    for name in names():
        found = definition_of(to_wire({**of_ready(ready(name)), "system": "web-1"}))
        assert found.script == ready(name).source
        assert ready(name).more or name == "http", f"{name} says what it needs"


async def test_a_check_is_made_tried_and_changed_without_losing_what_was_entered(
    fleet: Fleet, browse: Browse
) -> None:
    browser = await browse(fleet.host, rules=[*MANAGE, "satellite.satellite.read"])
    page = (await browser.get("/checks/new?from=disk")).text
    assert "filesystem.hostView: [disks]" in page
    assert (await browser.get("/checks/new?from=nothing")).status_code == 404
    empty = fields_of((await browser.get("/checks/new")).text)
    wrong = await browser.act(
        "/checks/new",
        **{**empty, "name": "x", "system": "", "script": "echo", "intervalSeconds": "often", "go": "save"},
    )
    assert wrong.status_code == 422
    assert "&#39;often&#39; is not a number" in wrong.text
    assert fields_of(wrong.text)["intervalSeconds"] == "often"
    given = {
        **empty,
        "name": "made",
        "system": "web-1",
        "kind": "shell",
        "script": "\necho <b>looked</b>; exit 1",
        "env": "A=1",
    }
    for field, value, error in (
        ("assertions", "latencyMs", "has no operator"),
        ("cron", "nonsense", "either an interval"),
        ("env", "A", "NAME=VALUE"),
        ("needs", "{", "not valid JSON"),
        ("needs", '{"network": ["example.org:443"]}', "the policy lacks"),
        ("secrets", "A={db}", "does not hold the access rule"),
        ("selector", "((", ""),
        ("timeoutSeconds", "0", "at least"),
    ):
        wrong = await browser.act("/checks/new", **{**given, field: value, "go": "save"})
        assert wrong.status_code in (422, 403), field
        assert re.search(r'class="error"', wrong.text), field
        assert error in html.unescape(wrong.text), field
        assert fields_of(wrong.text)["script"].strip() == given["script"].strip()
    without_place = {name: value for name, value in given.items() if name != "core"}
    assert "at least one place" in (await browser.act("/checks/new", **without_place, go="save")).text
    tried = await browser.act("/checks/new", **given, go="try")
    assert tried.status_code == 200
    assert "&lt;b&gt;looked&lt;/b&gt;" in tried.text
    assert "Nothing is stored" in tried.text
    assert fields_of(tried.text)["script"].strip() == given["script"].strip()
    assert (
        "no satellite" in (await browser.act("/checks/new", **{**given, "go": "try", "on": "nowhere"})).text
    )
    as_json = await browser.act("/checks/new", **given, go="json")
    whole = fields_of(as_json.text)["whole"]
    assert json.loads(whole)["env"] == {"A": "1"}
    assert "not valid JSON" in (await browser.act("/checks/new", whole="{", go="save")).text
    assert "unknown" in (await browser.act("/checks/new", whole='{"unknown": 1}', go="save")).text
    back = await browser.act("/checks/new", whole=whole, go="form")
    assert fields_of(back.text)["env"] == "A=1"
    made = await browser.act("/checks/new", whole=whole, go="save")
    assert made.status_code == 303, made.text
    one = made.headers["location"]
    assert "is created" in (await browser.get(one)).text
    assert "choose another name" in html.unescape((await browser.act("/checks/new", **given, go="save")).text)

    mine = fields_of((await browser.get(f"{one}/edit")).text)
    theirs = dict(mine)
    changed = await browser.act(
        f"{one}/edit", **{**mine, "env": "", "cron": "*/5 * * * *", "intervalSeconds": "", "go": "save"}
    )
    assert changed.status_code == 303, changed.text
    check = await fleet.shown(one.removeprefix("/checks/"))
    assert check["env"] == {}
    assert check["cron"] == "*/5 * * * *"
    late = await browser.act(f"{one}/edit", **{**theirs, "name": "late", "go": "save"})
    assert late.status_code == 409
    assert "has changed this check since" in late.text
    kept = fields_of(late.text)
    assert kept["name"] == "late"
    assert (await browser.act(f"{one}/edit", **{**kept, "go": "save"})).status_code == 303
    assert (await fleet.shown(one.removeprefix("/checks/")))["name"] == "late"
    schema = (await browser.get("/checks/schema")).json()
    assert "runsOn" in schema["properties"]


async def test_what_was_entered_comes_back_as_text(fleet: Fleet, browse: Browse) -> None:
    browser = await browse(fleet.host)
    words = "".join(one[:60] for one in HOSTILE)
    fields = fields_of((await browser.get("/checks/new")).text)
    for name in fields:
        if name in ("kind", "format", "core", "enabled"):
            continue
        page = (await browser.act("/checks/new", **{**fields, name: words, "go": "save"})).text
        for markup in ("<script>alert", "<img", "</textarea></pre>", "23333331"):
            assert markup not in page, name


def test_fields_hold_every_number_and_are_not_offered_for_what_they_cannot_hold() -> None:
    plain = {key: value for key, value in FULL.items() if key not in ("cron", "timezone")}
    check = Definition.model_validate({**plain, "intervalSeconds": 1234567.0, "timeoutSeconds": 1800.125})
    assert definition_of(to_wire(of_wire(check.to_wire()))) == check
    assert fits(check)
    for name, value in (("args", ["a\nb"]), ("args", [" "]), ("env", {"A": "1\nB=2"}), ("enabled", True)):
        other = Definition.model_validate({**plain, "intervalSeconds": 60, name: value})
        assert fits(other) == (name == "enabled"), (name, value)


async def test_a_check_whose_arguments_have_several_lines_is_edited_as_json_and_keeps_them(
    fleet: Fleet, browse: Browse
) -> None:
    browser = await browse(fleet.host, rules=MANAGE)
    command = ["/bin/sh", "-c", "echo a\necho b", ""]
    id = await fleet.create(
        name="lines", script=None, kind="program", command=command, intervalSeconds=60, cron=None
    )
    shown = fields_of((await browser.get(f"/checks/{id}/edit")).text)
    assert json.loads(shown["whole"])["command"] == command
    as_fields = await browser.act(f"/checks/{id}/edit", **{**shown, "go": "form"})
    assert as_fields.status_code == 422
    assert "this check cannot be shown as a form" in as_fields.text
    before = await fleet.shown(id)
    assert (await browser.act(f"/checks/{id}/edit", **{**shown, "go": "save"})).status_code == 303
    after = await fleet.shown(id)
    assert {**after, "updatedAt": "", "updatedBy": ""} == {**before, "updatedAt": "", "updatedBy": ""}
