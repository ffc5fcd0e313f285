"""`ringfence token`, `satellite` and `plugins`: what they ask, show and keep secret."""

from __future__ import annotations

import resource
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from ringfence.process.errors import CliError
from ringfence_satellite.commands.tokenfile import TokenFile
from ringfence_satellite.starting import Starting

from tests.cli.conftest import Command
from tests.cli.fake_host import Answer, FakeHost, Request, problem

TOKENS = "/api/host/tokens"
SATELLITES = "/api/satellite/satellites"


def satellite(name: str = "berlin", **fields: Any) -> dict[str, Any]:
    return {
        "id": f"id-of-{name}",
        "name": name,
        "region": "eu",
        "tags": ["a", "b"],
        "status": "never",
        **fields,
    }


def test_a_token_is_made_with_its_rules_and_shown_alone_on_stdout(command: Command, host: FakeHost) -> None:
    host.on("POST", TOKENS, Answer(201, {"token": "rft_x", "id": "1", "name": "ci", "rules": ["a.b.c"]}))
    outcome = command("token", "create", "ci", "--rule", "a.b.c", "--rule", "d.e.f")
    assert outcome.stdout == "rft_x\n"
    assert host.only("POST").body == {"name": "ci", "rules": ["a.b.c", "d.e.f"]}


def test_tokens_are_listed_and_revoked(command: Command, host: FakeHost) -> None:
    token = {
        "id": "1",
        "name": "ci",
        "rules": ["a.b.c"],
        "createdAt": None,
        "revokedAt": "2026-01-01T00:00:00Z",
    }
    host.on("GET", TOKENS, Answer(200, {"tokens": [token]}))
    host.on("DELETE", f"{TOKENS}/a%2Fb", Answer(204))
    assert "revoked" in command("token", "list").stdout
    assert command("token", "revoke", "a/b").status == 0


def test_a_satellite_is_registered_and_its_token_shown_alone_on_stdout(
    command: Command, host: FakeHost
) -> None:
    host.on("POST", SATELLITES, Answer(201, {"satellite": satellite(), "token": "rfs_x"}))
    outcome = command("satellite", "create", "berlin", "--region", "eu", "--tag", "a", "--tag", "b")
    assert host.only("POST").body == {"name": "berlin", "region": "eu", "tags": ["a", "b"]}
    assert outcome.stdout == "rfs_x\n"
    assert f"ringfence agent --url {host.url} --client-id id-of-berlin" in outcome.stderr


def test_what_starts_an_agent_names_the_address_that_the_host_is_known_by(
    command: Command, host: FakeHost
) -> None:
    made = {"satellite": satellite(), "token": "rfs_x", "publicUrl": "https://core.example.org"}
    for words, path in (("create", SATELLITES), ("claim", f"{SATELLITES}/id-of-berlin/claim")):
        host.on("POST", path, Answer(201, made))
        host.on("GET", SATELLITES, Answer(200, {"satellites": [satellite()], "next": None}))
        outcome = command("satellite", words, "berlin")
        address = "--url https://core.example.org --client-id id-of-berlin"
        for way in ("ringfence agent ", "ringfence agent install ", "ringfence-satellite agent "):
            assert f"{way}{address}" in outcome.stderr
        assert "is reached from this machine alone" not in outcome.stderr
    host.on("POST", SATELLITES, Answer(201, {**made, "publicUrl": None}))
    outcome = command("satellite", "create", "berlin")
    assert f"{host.url} is reached from this machine alone" in outcome.stderr
    assert "RINGFENCE_PUBLIC_URL" in outcome.stderr


@pytest.mark.parametrize(
    ("url", "only_here"),
    [
        ("http://127.0.0.1:8484", True),
        ("http://127.9.9.9", True),
        ("http://[::1]:8484", True),
        ("http://localhost:8484", True),
        ("http://0.0.0.0:8484", True),
        ("https://core.localhost", True),
        ("https://core.example.org", False),
        ("http://192.0.2.1:8484", False),
        ("http://[2001:db8::1]", False),
    ],
)
def test_an_address_that_leads_back_to_who_asks_is_told_from_others(url: str, only_here: bool) -> None:
    assert Starting("id", url).only_here is only_here


def test_a_token_can_go_to_a_file_of_its_owner_alone(
    command: Command, host: FakeHost, tmp_path: Path
) -> None:
    host.on("POST", SATELLITES, Answer(201, {"satellite": satellite(), "token": "rfs_x"}))
    file = tmp_path / "token"
    outcome = command("satellite", "create", "berlin", "--token-file", str(file))
    assert file.read_text() == "rfs_x\n"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert "rfs_x" not in outcome.stdout + outcome.stderr


def test_no_satellite_is_made_when_its_token_could_not_be_kept(
    command: Command, host: FakeHost, tmp_path: Path
) -> None:
    file = tmp_path / "token"
    file.write_text("precious")
    outcome = command("satellite", "create", "berlin", "--token-file", str(file))
    assert outcome.status == 1
    assert "exists already" in outcome.stderr
    assert file.read_text() == "precious"
    assert host.requests == []


def test_a_token_that_cannot_be_written_is_said_to_be_lost(tmp_path: Path) -> None:
    path = tmp_path / "token"
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    with TokenFile.reserved(path) as file:
        assert file is not None
        resource.setrlimit(resource.RLIMIT_FSIZE, (0, before[1]))
        try:
            with pytest.raises(CliError, match="is lost") as lost:
                file.write("rfs_x")
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert "rotate-token" in str(lost.value.hint)
    assert not path.exists()


def test_no_token_file_is_left_when_the_host_refuses(
    command: Command, host: FakeHost, tmp_path: Path
) -> None:
    host.on("POST", SATELLITES, problem(409, "there is one of that name"))
    file = tmp_path / "token"
    assert command("satellite", "create", "berlin", "--token-file", str(file)).status == 1
    assert not file.exists()


def test_satellites_are_listed_with_what_they_cannot_enforce(command: Command, host: FakeHost) -> None:
    enforced = {"filesystem": True, "network": False}
    online = satellite(status="online", appliedRevision=4, enforced=enforced)
    refusing = satellite("rome", enforced=enforced, downgrades=[{"layer": "privilege", "reason": "because"}])
    everything = satellite("paris", enforced={"filesystem": True})
    listed = [online, refusing, everything, satellite("oslo\x1b[1m")]
    host.on("GET", SATELLITES, Answer(200, {"satellites": listed}))
    shown = command("satellite", "list").stdout
    assert "cannot enforce privilege" in shown
    assert "all layers" in shown
    assert "online" in shown
    assert "revision 4" in shown
    assert "all but network" in shown
    assert r"oslo\x1b[1m" in shown


def test_nothing_is_claimed_for_a_satellite_that_has_never_come(command: Command, host: FakeHost) -> None:
    host.on("GET", SATELLITES, Answer(200, {"satellites": [satellite(enforced={}, downgrades=[])]}))
    assert "all layers" not in command("satellite", "list").stdout


def test_a_satellite_is_found_by_name_or_id(command: Command, host: FakeHost) -> None:
    host.on("GET", SATELLITES, Answer(200, {"satellites": [satellite()]}))
    host.on("DELETE", f"{SATELLITES}/id-of-berlin", Answer(204))
    assert command("satellite", "delete", "berlin", "--yes").status == 0
    assert command("satellite", "delete", "id-of-berlin", "--json", "--yes").json == {
        "deleted": "id-of-berlin"
    }
    unknown = command("satellite", "delete", "paris")
    assert unknown.status == 1
    assert "There are: berlin." in unknown.stderr


def test_a_rotated_token_is_shown(command: Command, host: FakeHost) -> None:
    host.on("GET", SATELLITES, Answer(200, {"satellites": [satellite()]}))
    path = f"{SATELLITES}/id-of-berlin/rotate-token"
    host.on("POST", path, Answer(200, {"satellite": satellite(), "token": "rfs_new"}))
    assert command("satellite", "rotate-token", "berlin").stdout == "rfs_new\n"


def test_plugins_are_listed_with_phase_hooks_and_errors(command: Command, host: FakeHost) -> None:
    plugin = {
        "id": "satellite",
        "version": "0.1.0",
        "phase": "ready",
        "requires": ["script-packages"],
        "hooks": ["satellite-connected"],
        "subscriptions": ["sandbox-policy-changed (broadcast)"],
        "workerGroups": ["tidying (sandbox-policy-changed)"],
        "services": ["ringfence_satellite.service.Satellites"],
        "extensionPoints": ["a_module.Place"],
        "settings": ["RINGFENCE_SATELLITE_RUN_RETENTION_DAYS"],
        "routes": ["GET /api/satellite/satellites"],
        "commands": ["satellite runs"],
        "error": "a reason",
        "commandsError": "(a_module) cannot be loaded: ImportError: gone",
    }
    host.on("GET", "/api/host/plugins", Answer(200, {"plugins": [plugin]}))
    shown = command("plugins").stdout
    for expected in (
        "satellite",
        "0.1.0",
        "ready",
        "satellite-connected",
        "subscription     sandbox-policy-changed (broadcast)",
        "worker group     tidying (sandbox-policy-changed)",
        "service          ringfence_satellite.service.Satellites",
        "extension point  a_module.Place",
        "setting          RINGFENCE_SATELLITE_RUN_RETENTION_DAYS",
        "GET /api/satellite/satellites",
        "command          satellite runs",
        "a reason",
        "its module for the command line (a_module) cannot be loaded: ImportError: gone",
    ):
        assert expected in shown


def paged(names: list[str], size: int = 2) -> Callable[[Request], Answer]:
    """The list of satellites as the API gives it: a page at a time."""

    def page(request: Request) -> Answer:
        [after] = parse_qs(urlsplit(request.path).query).get("after", [""])
        found = [name for name in names if name > after][:size]
        return Answer(
            200,
            {
                "satellites": [satellite(name) for name in found],
                "next": found[-1] if len(found) == size else None,
            },
        )

    return page


def test_all_satellites_are_listed_and_found_however_many_there_are(command: Command, host: FakeHost) -> None:
    names = [f"s{n}" for n in range(6)]
    host.on("GET", SATELLITES, paged(names))
    listed = command("satellite", "list", "--json").json["satellites"]
    assert [one["name"] for one in listed] == names
    shown = command("satellite", "list").stdout
    assert all(name in shown for name in names)
    host.on("DELETE", f"{SATELLITES}/id-of-s5", Answer(204))
    assert command("satellite", "delete", "s5", "--yes").status == 0
    assert "s5" in command("satellite", "delete", "none").stderr


def test_satellites_are_filtered_on_every_page(command: Command, host: FakeHost) -> None:
    host.on("GET", SATELLITES, paged(["a", "b"]))
    outcome = command("satellite", "list", "--region", "eu", "--tag", "x", "--tag", "y", "--status", "online")
    assert outcome.status == 0
    queries = [parse_qs(urlsplit(request.path).query) for request in host.requests]
    filters = {"region": ["eu"], "tag": ["x", "y"], "status": ["online"]}
    filters["limit"] = ["500"]
    assert queries == [filters, {**filters, "after": ["b"]}]
    assert command("satellite", "list", "--status", "asleep").status == 2


def test_a_satellite_is_shown_with_what_it_lacks_and_that_it_is_on_a_lost_revision(
    command: Command, host: FakeHost
) -> None:
    one = satellite(
        offlineAfterSeconds=45.0,
        appliedRevision=9,
        appliedUnknown=True,
        downgrades=[{"layer": "network", "reason": "no\x1b[2Jnft"}],
    )
    host.on("GET", SATELLITES, Answer(200, {"satellites": [one]}))
    outcome = command("satellite", "show", "berlin")
    assert "revision 9, unknown here" in outcome.stdout
    assert "lacks network" in outcome.stdout
    assert "\x1b[2J" not in outcome.stdout
    assert "start the satellite's agent again" in outcome.stderr
    assert command("satellite", "show", "berlin", "--json").json == one


def test_a_satellite_is_renamed_and_retagged(command: Command, host: FakeHost) -> None:
    host.on("GET", SATELLITES, Answer(200, {"satellites": [satellite()]}))
    host.on("PATCH", f"{SATELLITES}/id-of-berlin", Answer(200, satellite("rome")))
    outcome = command(
        "satellite", "update", "berlin", "--name", "rome", "--tag", "c", "--offline-after", "90"
    )
    assert outcome.stdout == "rome is changed.\n"
    assert host.only("PATCH").body == {"name": "rome", "tags": ["c"], "offlineAfterSeconds": 90.0}
    command("satellite", "update", "berlin", "--no-tags")
    assert host.requests[-1].body == {"tags": []}
    assert command("satellite", "update", "berlin").status == 2
    assert command("satellite", "update", "berlin", "--tag", "a", "--no-tags").status == 2
