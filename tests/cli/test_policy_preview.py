"""A change of the policy is foreseen; who makes it looser, or breaks something, is asked, or has said `--yes`."""

from __future__ import annotations

import json
import shlex
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest
from ringfence.sandbox import DEFAULT_POLICY

from tests.cli.conftest import Command
from tests.cli.fake_host import Answer, FakeHost, problem
from tests.cli.terminal import answering
from tests.cli.test_policy import POLICY, foresees, state

PREVIEW = f"{POLICY}/preview"
LOOSER = ["network.allow: scripts may connect to 10.0.0.5:443"]
UNABLE: dict[str, Any] = {
    "name": "edge\x1b[2J",
    "id": "7",
    "fate": "refused",
    "was": "run",
    "breaks": True,
    "reasons": ["network: this machine cannot enforce network.allow: nft is not installed"],
}
SATELLITES = {
    "kind": "satellite",
    "total": 2,
    "breaks": 1,
    "fates": {"run": 1, "refused": 1},
    "named": [UNABLE],
}
BROKEN = {"breaks": 1, "prospects": [SATELLITES]}
CHANGE = ("policy", "patch", "network.allow=10.0.0.5:443")


@pytest.fixture(autouse=True)
def at_revision_7(host: FakeHost) -> None:
    host.on("GET", POLICY, Answer(200, state(7)))
    host.on("PATCH", POLICY, Answer(200, state(8, network={"mode": "deny"})))
    host.on("PUT", POLICY, Answer(200, state(8, network={"mode": "deny"})))


def written(host: FakeHost) -> list[str]:
    return [one.method for one in host.requests if one.method in {"PUT", "PATCH"}]


def test_what_nobody_would_mind_is_done_without_asking(command: Command, host: FakeHost) -> None:
    foresees(host)
    assert command(*CHANGE).status == 0
    assert host.only("POST").headers["if-match"] == '"7"'
    assert host.only("POST").body == {"policy": {"network": {"allow": ["10.0.0.5:443"]}}}
    assert host.only("PATCH").headers["if-match"] == '"7"'


@pytest.mark.parametrize(
    "more", [{"looser": LOOSER}, BROKEN, {"unforeseen": ["diary cannot say what the change would do"]}]
)
def test_without_a_terminal_what_somebody_may_regret_needs_a_yes(
    command: Command, host: FakeHost, more: dict[str, Any]
) -> None:
    foresees(host, **more)
    refused = command(*CHANGE)
    assert (refused.status, refused.stdout, written(host)) == (1, "", [])
    assert "there is no terminal to ask at" in refused.stderr
    assert "--yes" in refused.stderr
    told = command(*CHANGE, "--json").json["error"]
    assert "--yes" in told["hint"]
    assert command(*CHANGE, "--yes").status == 0
    assert written(host) == ["PATCH"]


@pytest.mark.parametrize("more", [{"looser": LOOSER}, BROKEN])
def test_what_changes_nothing_is_not_asked_about(
    command: Command, host: FakeHost, more: dict[str, Any]
) -> None:
    foresees(host, changed=False, **more)
    host.on("PATCH", POLICY, Answer(200, state(7)))
    outcome = command(*CHANGE)
    assert outcome.status == 0
    assert "Nothing changed" in outcome.stdout


def test_before_it_holds_it_says_who_cannot_enforce_it_why_and_how_to_go_back(host: FakeHost) -> None:
    foresees(host, looser=LOOSER, **BROKEN)
    status, shown = answering(b"n\n", *CHANGE)
    assert (status, written(host)) == (1, [])
    assert "network.allow: scripts may connect to 10.0.0.5:443" in shown
    assert "1 of 2 satellites would be worse off" in shown
    assert "its runs would be refused: network: this machine cannot enforce network.allow" in shown
    assert "ringfence policy revert 7" in shown
    assert r"edge\x1b[2J" in shown
    assert "nothing was done" in shown


def test_whoever_says_yes_gets_it(host: FakeHost) -> None:
    foresees(host, looser=LOOSER)
    status, shown = answering(b"y\n", *CHANGE)
    assert (status, written(host)) == (0, ["PATCH"])
    assert "The policy is now at revision 8" in shown


def test_ctrl_c_at_the_question_ends_as_an_interruption(host: FakeHost) -> None:
    foresees(host, looser=LOOSER)
    assert answering(b"\x03", *CHANGE)[0] == 130
    assert written(host) == []


def test_a_dry_run_shows_everything_and_writes_nothing(command: Command, host: FakeHost) -> None:
    foresees(host, looser=LOOSER, notes=["The entry 127.0.0.1 stays blocked"], **BROKEN)
    outcome = command(*CHANGE, "--dry-run")
    assert outcome.status == 0
    shown = " ".join(outcome.stdout.split())
    for text in (
        "It would change revision 7",
        "+ network.mode = deny",
        LOOSER[0],
        "satellite: 2 (1 as the policy asks, 1 refused)",
        UNABLE["reasons"][0],
        "Note: The entry 127.0.0.1 stays blocked.",
    ):
        assert text in shown
    assert command(*CHANGE, "--dry-run", "--json").json["looser"] == LOOSER
    assert written(host) == []


def test_a_dry_run_of_set_is_over_the_default(command: Command, host: FakeHost) -> None:
    foresees(host)
    command("policy", "set", "network.mode=deny", "--dry-run")
    assert host.only("POST").body == {"policy": {"network": {"mode": "deny"}}, "replace": True}


@pytest.mark.parametrize(("arguments", "revision"), [((), 6), (("--revision", "3"), 3)])
def test_diff_is_what_going_back_would_do(
    command: Command, host: FakeHost, arguments: tuple[str, ...], revision: int
) -> None:
    foresees(host, looser=LOOSER)
    outcome = command("policy", "diff", *arguments)
    assert outcome.status == 0
    assert LOOSER[0] in outcome.stdout
    assert host.only("POST").body == {"revision": revision}
    assert host.only("POST").path == PREVIEW


def test_a_host_of_an_older_release_cannot_say_so_somebody_is_asked(command: Command, host: FakeHost) -> None:
    outcome = command(*CHANGE)
    assert (outcome.status, written(host)) == (1, [])
    assert "older release" in outcome.stderr
    assert command(*CHANGE, "--yes").status == 0


def test_a_revision_that_is_not_there_is_not_asked_about(command: Command, host: FakeHost) -> None:
    host.on("POST", PREVIEW, problem(404, "Not Found", detail="the sandbox policy has no revision 99"))
    outcome = command("policy", "revert", "99")
    assert outcome.status == 1
    assert "has no revision 99" in outcome.stderr
    assert "--yes" not in outcome.stderr


# The editor ---------------------------------------------------------------------------------------------


@pytest.fixture
def editor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An editor that writes what stands in this file; as long as there is none, it changes nothing."""
    text = tmp_path / "typed"
    program = tmp_path / "an editor.py"
    program.write_text(
        f"import pathlib, sys\nif pathlib.Path({str(text)!r}).exists():\n"
        f"    pathlib.Path(sys.argv[1]).write_bytes(pathlib.Path({str(text)!r}).read_bytes())\n"
    )
    monkeypatch.delenv("VISUAL", raising=False)
    monkeypatch.setenv("EDITOR", f"{shlex.quote(sys.executable)} {shlex.quote(str(program))}")
    monkeypatch.setenv("TMPDIR", str(tmp_path / "drafts"))
    (tmp_path / "drafts").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", None)  # which is remembered
    return text


def drafts(editor: Path) -> list[Path]:
    return list((editor.parent / "drafts").iterdir())


def test_what_is_edited_replaces_the_policy_that_was_read(
    command: Command, host: FakeHost, editor: Path
) -> None:
    foresees(host)
    policy = {**DEFAULT_POLICY.to_wire(), "network": {"mode": "deny"}}
    editor.write_text(json.dumps(policy))
    outcome = command("policy", "edit", "--reason", "quiet")
    assert outcome.status == 0, outcome.stderr
    assert host.only("POST").body == {"policy": policy, "replace": True}
    assert host.only("PUT").body == {"policy": policy, "reason": "quiet"}
    assert host.only("PUT").headers["if-match"] == '"7"'
    assert drafts(editor) == []


def test_an_editor_that_changes_nothing_changes_nothing(
    command: Command, host: FakeHost, editor: Path
) -> None:
    outcome = command("policy", "edit")
    assert outcome.status == 0
    assert "Nothing changed" in outcome.stdout
    assert ([one.method for one in host.requests], drafts(editor)) == (["GET"], [])


@pytest.mark.parametrize("text", ["{", "[]", "\xff"])
def test_what_cannot_be_read_is_kept_and_not_sent(
    command: Command, host: FakeHost, editor: Path, text: str
) -> None:
    editor.write_bytes(text.encode("latin-1"))
    outcome = command("policy", "edit")
    assert (outcome.status, written(host)) == (2, [])
    [kept] = drafts(editor)
    assert str(kept) in outcome.stderr
    assert kept.read_bytes() == text.encode("latin-1")
    assert oct(kept.stat().st_mode & 0o777) == "0o600"


def test_a_no_keeps_what_was_edited(host: FakeHost, editor: Path) -> None:
    foresees(host, looser=LOOSER)
    editor.write_text('{"enabled": true}')
    status, shown = answering(b"n\n", "policy", "edit")
    assert (status, written(host)) == (1, [])
    [kept] = drafts(editor)
    assert str(kept) in shown.replace("\n", "")


def test_a_mistake_can_be_mended_in_the_editor(host: FakeHost, editor: Path) -> None:
    host.on("POST", PREVIEW, problem(422, "The policy is not valid", problems=["network.mod: unknown key"]))
    editor.write_text('{"network": {"mod": "deny"}}')
    status, shown = answering(b"n\n", "policy", "edit")
    assert (status, written(host)) == (1, [])
    assert "network.mod: unknown key" in shown
    assert "Edit it again?" in shown


def test_an_editor_that_fails_or_is_not_there_changes_nothing(
    command: Command, host: FakeHost, monkeypatch: pytest.MonkeyPatch, editor: Path
) -> None:
    for program in ("false", "no-such-editor", "'"):
        monkeypatch.setenv("EDITOR", program)
        outcome = command("policy", "edit")
        assert outcome.status == 1
        assert "editor" in outcome.stderr
    assert ([one.method for one in host.requests], drafts(editor)) == (["GET"] * 3, [])
