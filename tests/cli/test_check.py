"""`ringfence check` and `ringfence secret`: what they ask, show and keep secret."""

from __future__ import annotations

import io
import sys
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from ringfence_health_checks.commands.api import CHECKS
from ringfence_secrets.commands.secret import RESEAL, SECRETS

from tests.cli.conftest import Command
from tests.cli.fake_host import Answer, FakeHost, Request, problem
from tests.cli.test_registry import SATELLITES, satellite

VALUE = "correct horse battery staple"


def check(name: str = "disk", **fields: Any) -> dict[str, Any]:
    return {
        "id": f"id-of-{name}",
        "name": name,
        "system": "web-1",
        "kind": "shell",
        "script": "df\n",
        "intervalSeconds": 60.0,
        "timeoutSeconds": 30.0,
        "runsOn": {"core": True, "satellites": ["id-of-berlin"], "tags": ["web"]},
        "secrets": ["API_TOKEN"],
        "enabled": True,
        "updatedAt": "2026-01-01T00:00:00Z",
        "updatedBy": "admin",
        "latest": [seen()],
        **fields,
    }


def seen(**fields: Any) -> dict[str, Any]:
    return {
        "ranOn": "id-of-berlin",
        "status": "degraded",
        "latencyMs": 12.4,
        "message": "nearly\x1b[2Jfull",
        "executedAt": "2026-01-01T00:00:00Z",
        **fields,
    }


@pytest.fixture
def checks(host: FakeHost) -> FakeHost:
    host.on("GET", SATELLITES, Answer(200, {"satellites": [satellite()]}))
    host.on("GET", CHECKS, Answer(200, {"checks": [check()]}))
    return host


def test_a_check_is_created_from_a_file_on_the_places_that_are_named(
    command: Command, checks: FakeHost, tmp_path: Path
) -> None:
    script = tmp_path / "disk.py"
    script.write_text("def main(context): return {}\n")
    checks.on("POST", CHECKS, Answer(201, check()))
    outcome = command(
        *("check", "create", "disk", str(script), "--system", "web-1", "--every", "10", "--timeout", "5"),
        *("--on", "core", "--on", "berlin", "--tag", "web", "--secret", "API_TOKEN", "--no-try"),
    )
    assert outcome.status == 0, outcome.stderr
    assert checks.only("POST").body == {
        "name": "disk",
        "system": "web-1",
        "kind": "python",
        "script": "def main(context): return {}\n",
        "fileName": "disk.py",
        "intervalSeconds": 10.0,
        "timeoutSeconds": 5.0,
        "runsOn": {"core": True, "satellites": ["id-of-berlin"], "tags": ["web"]},
        "secrets": ["API_TOKEN"],
    }


@pytest.mark.parametrize(
    ("options", "places"),
    [
        ([], {"core": True, "satellites": [], "tags": []}),
        (["--tag", "web"], {"core": False, "satellites": [], "tags": ["web"]}),
        (["--on", "id-of-berlin"], {"core": False, "satellites": ["id-of-berlin"], "tags": []}),
        (["-l", "role=web"], {"core": False, "satellites": [], "tags": [], "selector": "role=web"}),
        (
            ["--selector", "!old", "--on", "core"],
            {"core": True, "satellites": [], "tags": [], "selector": "!old"},
        ),
    ],
)
def test_it_runs_on_the_core_unless_told_otherwise(
    command: Command, checks: FakeHost, options: list[str], places: dict[str, Any]
) -> None:
    checks.on("POST", CHECKS, Answer(201, check()))
    assert command("check", "create", "disk", "-c", "df", "--no-try", *options).status == 0
    body = checks.only("POST").body
    assert (body["runsOn"], body["kind"], body["system"]) == (places, "shell", "disk")


def test_a_check_is_shown_with_its_selector(command: Command, checks: FakeHost) -> None:
    places = {"core": True, "satellites": [], "tags": ["web"], "selector": "role in (web, api)"}
    checks.on("GET", CHECKS, Answer(200, {"checks": [check(runsOn=places)]}))
    assert "core, tag web, satellites with role in (web, api)" in command("check", "show", "disk").stdout


def test_an_unknown_place_is_named(command: Command, checks: FakeHost) -> None:
    outcome = command("check", "create", "disk", "-c", "df", "--on", "rome")
    assert (outcome.status, "there is no satellite 'rome'" in outcome.stderr) == (1, True)


def test_checks_and_results_are_shown_with_the_satellites_names_and_without_control_characters(
    command: Command, checks: FakeHost
) -> None:
    results = [{**seen(), "metrics": {"free": 3.0}}]
    checks.on("GET", f"{CHECKS}/id-of-disk/results", Answer(200, {"results": results}))
    listed = command("check", "list").stdout
    assert all(part in listed for part in ("berlin", "degraded", "nearly"))
    assert "\x1b[2J" not in listed
    for shown in (
        command("check", "show", "disk").stdout,
        command("check", "results", "disk", "--status", "degraded").stdout,
    ):
        assert "berlin" in shown
        assert "degraded" in shown
        assert "12 ms" in shown
        assert "\x1b[2J" not in shown
    assert "free=3" in shown
    assert checks.requests[-2].path.endswith("limit=20&status=degraded")


@pytest.mark.parametrize(
    ("status", "error", "exit_status"),
    [("healthy", None, 0), ("degraded", None, 0), ("unhealthy", None, 1), (None, "offline", 1)],
)
def test_a_run_says_by_its_status_whether_all_is_well(
    command: Command, checks: FakeHost, status: str | None, error: str | None, exit_status: int
) -> None:
    attempt: dict[str, Any] = {"name": "berlin", "error": error}
    if error is None:
        attempt |= {"status": status, "latencyMs": 3.0, "message": "so it is", "metrics": {}}
    checks.on("POST", f"{CHECKS}/id-of-disk/run", Answer(200, {"results": [attempt]}))
    outcome = command("check", "run", "disk", "--on", "berlin")
    assert outcome.status == exit_status
    assert (error or "so it is") in outcome.stdout
    assert checks.only("POST").body == {"on": "berlin"}
    assert command("check", "run", "disk", "--json").json == {"results": [attempt]}


@pytest.mark.parametrize(
    ("options", "body"),
    [
        (["--every", "5", "--name", "space"], {"intervalSeconds": 5.0, "name": "space"}),
        (["--every", "5m", "--timeout", "1.5m"], {"intervalSeconds": 300.0, "timeoutSeconds": 90.0}),
        (["--cron", "*/5 * * * *"], {"cron": "*/5 * * * *"}),
        (["--timezone", "Europe/Berlin"], {"timezone": "Europe/Berlin"}),
        (["-c", "df -h"], {"script": "df -h"}),
        (["--tag", "db"], {"runsOn": {"core": False, "satellites": [], "tags": ["db"]}}),
        (["--on", "berlin"], {"runsOn": {"core": False, "satellites": ["id-of-berlin"], "tags": []}}),
        (["-l", "a"], {"runsOn": {"core": False, "satellites": [], "tags": [], "selector": "a"}}),
        (["--secret", "OTHER"], {"secrets": ["OTHER"]}),
        (["--no-secrets"], {"secrets": []}),
        (["--kind", "python", "--timeout", "2"], {"kind": "python", "timeoutSeconds": 2.0}),
    ],
)
def test_a_check_is_changed_in_what_is_named(
    command: Command, checks: FakeHost, options: list[str], body: dict[str, Any]
) -> None:
    checks.on("PATCH", f"{CHECKS}/id-of-disk", Answer(200, check()))
    outcome = command("check", "update", "disk", *options)
    assert outcome.status == 0, outcome.stderr
    assert checks.only("PATCH").body == body


def test_another_script_brings_the_kind_that_its_suffix_says(
    command: Command, checks: FakeHost, tmp_path: Path
) -> None:
    checks.on("PATCH", f"{CHECKS}/id-of-disk", Answer(200, check()))
    for name, kind in (("disk.py", {"kind": "python"}), ("disk.txt", {})):
        (tmp_path / name).write_text("x")
        assert command("check", "update", "disk", str(tmp_path / name)).status == 0
        assert checks.requests[-1].body == {"script": "x", "fileName": name, **kind}


def test_a_change_that_changes_nothing_or_contradicts_itself_is_a_mistake(
    command: Command, checks: FakeHost
) -> None:
    assert command("check", "update", "disk").status == 2
    assert command("check", "update", "disk", "--secret", "A", "--no-secrets").status == 2
    assert checks.requests == []


def test_a_check_is_disabled_and_enabled(command: Command, checks: FakeHost) -> None:
    checks.on("PATCH", f"{CHECKS}/id-of-disk", lambda request: Answer(200, {**check(), **request.body}))
    assert command("check", "disable", "disk").stdout == "disk is disabled.\n"
    assert checks.requests[-1].body == {"enabled": False}
    assert command("check", "enable", "id-of-disk", "--json").json["enabled"] is True


def test_a_check_is_deleted_by_name(command: Command, checks: FakeHost) -> None:
    checks.on("DELETE", f"{CHECKS}/id-of-disk", Answer(204))
    checks.on("GET", f"{CHECKS}/id-of-disk/results", Answer(200, {"results": []}))
    assert command("check", "delete", "disk", "--json").json == {"deleted": "id-of-disk"}
    missing = command("check", "delete", "none")
    assert (missing.status, "There are: disk." in missing.stderr) == (1, True)


def piped(monkeypatch: pytest.MonkeyPatch, data: bytes) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data)))


def test_a_secret_is_set_from_standard_input_and_shown_nowhere(
    command: Command, host: FakeHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    host.on("PUT", f"{SECRETS}/API_TOKEN", Answer(200, {"name": "API_TOKEN"}))
    piped(monkeypatch, f"{VALUE}\n".encode())
    outcome = command("secret", "set", "API_TOKEN")
    assert host.only("PUT").body == {"value": VALUE}
    assert outcome.stdout == "API_TOKEN is set.\n"
    assert VALUE not in outcome.stderr


def test_a_secret_is_never_taken_as_an_argument(command: Command, host: FakeHost) -> None:
    assert command("secret", "set", "API_TOKEN", VALUE).status == 2
    assert host.requests == []


def test_a_refused_value_is_not_shown_either(
    command: Command, host: FakeHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    host.on("PUT", f"{SECRETS}/API_TOKEN", problem(422, "The value cannot be used", detail="too short"))
    piped(monkeypatch, VALUE.encode())
    outcome = command("secret", "set", "API_TOKEN")
    assert outcome.status == 1
    assert "too short" in outcome.stderr
    assert VALUE not in outcome.stdout + outcome.stderr
    piped(monkeypatch, b"\xff" + VALUE.encode())
    outcome = command("secret", "set", "API_TOKEN")
    assert outcome.status == 2
    assert VALUE not in outcome.stdout + outcome.stderr


def test_secrets_are_listed_deleted_and_resealed(command: Command, host: FakeHost) -> None:
    listed = {"name": "API_TOKEN", "keyId": "ab" * 16, "updatedAt": None, "updatedBy": "admin"}
    host.on("GET", SECRETS, Answer(200, {"secrets": [listed]}))
    host.on("DELETE", f"{SECRETS}/API_TOKEN", Answer(204))
    host.on("GET", f"{SECRETS}/API_TOKEN/users", Answer(200, {"users": [], "count": 0}))
    host.on("POST", RESEAL, Answer(200, {"resealed": ["API_TOKEN"]}))
    assert "API_TOKEN" in command("secret", "list").stdout
    assert command("secret", "delete", "API_TOKEN", "--json").json == {"deleted": "API_TOKEN"}
    assert "1 secret encrypted again, with the current key" in command("secret", "reseal").stdout


def outlined(name: str, **fields: Any) -> dict[str, Any]:
    """A check as a list has it."""
    whole = check(name, scriptSha256="0" * 64, latestTruncated=False, **fields)
    return {key: value for key, value in whole.items() if key != "script"}


def test_checks_are_listed_from_every_page_with_the_names_that_the_host_tells(
    command: Command, host: FakeHost
) -> None:
    names = [f"c{number}" for number in range(5)]

    def page(request: Request) -> Answer:
        [after] = parse_qs(urlsplit(request.path).query).get("after", [""])
        found = [name for name in names if name > after][:2]
        told = {"id-of-berlin": f"berlin-of-{found[0]}"}
        last = None if found[-1] == names[-1] else found[-1]
        return Answer(200, {"checks": [outlined(name) for name in found], "next": last, "names": told})

    host.on("GET", CHECKS, page)
    assert [one["name"] for one in command("check", "list", "--json").json["checks"]] == names
    shown = command("check", "list").stdout
    assert all(name in shown for name in [*names, "berlin-of-c4"])
    assert {request.path.split("?")[0] for request in host.requests} == {CHECKS}


def test_a_check_is_asked_for_by_its_name_and_shown_with_its_script(command: Command, host: FakeHost) -> None:
    def chosen(request: Request) -> Answer:
        [name] = parse_qs(urlsplit(request.path).query)["name"]
        return Answer(200, {"checks": [outlined(name)], "next": None, "names": {}})

    host.on("GET", CHECKS, chosen)
    whole = check("disk", latestTruncated=True, counts={"healthy": 1999, "degraded": 1}, names={})
    host.on("GET", f"{CHECKS}/id-of-disk", Answer(200, whole))
    outcome = command("check", "show", "disk")
    assert "df" in outcome.stdout
    assert "1999 healthy, 1 degraded" in outcome.stderr
    assert len(host.requests) == 2


def test_a_check_is_asked_for_by_its_id(command: Command, host: FakeHost) -> None:
    id = "00000000-0000-4000-8000-000000000000"
    host.on("GET", f"{CHECKS}/{id}", Answer(200, check("disk", id=id, names={"id-of-berlin": "berlin"})))
    assert "berlin" in command("check", "show", id).stdout
    assert len(host.requests) == 1
    host.on("GET", f"{CHECKS}/{id}", problem(404, "No such check"))
    host.on("GET", CHECKS, Answer(200, {"checks": [check("disk")]}))
    missing = command("check", "show", id)
    assert (missing.status, "There are: disk." in missing.stderr) == (1, True)


def test_a_check_runs_at_an_interval_or_at_times(command: Command, checks: FakeHost) -> None:
    def made(request: Any) -> Answer:
        return Answer(201, {**check(), **request.body})

    checks.on("POST", CHECKS, made)
    create = ("check", "create", "disk", "-c", "df", "--no-try")
    assert command(*create, "--every", "5m").stdout.splitlines()[0] == "disk runs every 300 s."
    outcome = command(*create, "--cron", "*/5 8-18 * * MON-FRI", "--timezone", "Europe/Berlin")
    assert outcome.stdout.splitlines()[0] == "disk runs at */5 8-18 * * MON-FRI (Europe/Berlin)."
    body = checks.requests[-1].body
    assert (body["cron"], body["timezone"]) == ("*/5 8-18 * * MON-FRI", "Europe/Berlin")
    assert "intervalSeconds" not in body
    assert command(*create, "--every", "5m", "--cron", "* * * * *").status == 2
    assert command(*create, "--timezone", "UTC").status == 2
    assert "30s, 5m, 1h" in command(*create, "--every", "soon").stderr
