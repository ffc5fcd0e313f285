"""`ringfence gitops`: what it sends, what it shows, and how it ends."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tests.cli.conftest import Command
from tests.cli.fake_host import Answer, FakeHost

SOURCES = "/api/gitops/sources"
SHOP: dict[str, Any] = {
    "name": "shop",
    "url": "https://git.example.org/shop.git",
    "branch": "main",
    "path": "",
    "enabled": True,
    "deletion": "orphan",
    "status": "synced",
    "commit": "4f2a" * 10,
    "subject": "Beg\x1bin",
    "author": "Ann",
    "signedBy": None,
    "actsFor": "ann",
    "objects": 1,
    "syncedAt": "2030-01-01T00:00:00Z",
    "triedAt": "2030-01-01T00:00:00Z",
    "failingSince": None,
    "error": None,
    "findings": [],
    "webhook": False,
    "held": [{"kind": "Check", "name": "disk", "place": "disk.yaml:3:1"}],
}
FAILED: dict[str, Any] = {
    **SHOP,
    "status": "failed",
    "error": "disk.yaml:2:1: no",
    "triedAt": "2030-01-01T00:01:00Z",
    "failingSince": "2030-01-01T00:01:00Z",
    "findings": [{"file": "disk.yaml", "line": 2, "column": 1, "path": "", "message": "no"}],
}


def test_a_source_is_added_with_what_was_said(command: Command, host: FakeHost, tmp_path: Path) -> None:
    hosts = tmp_path / "known_hosts"
    hosts.write_text("git.example.org ssh-ed25519 AAAA\n")
    host.on("GET", SOURCES, Answer(200, {"sources": [], "next": None}))
    host.on("PUT", f"{SOURCES}/shop", Answer(200, SHOP))
    words = ["--branch", "live", "--interval", "2m", "--ssh-key-secret", "KEY", "--known-hosts", str(hosts)]
    added = command("gitops", "add", "shop", "git@git.example.org:shop.git", *words, "--deletion", "prune")
    assert added.status == 0, added
    assert host.requests[-1].body == {
        "url": "git@git.example.org:shop.git",
        "branch": "live",
        "intervalSeconds": 120,
        "sshKeySecret": "KEY",
        "knownHosts": "git.example.org ssh-ed25519 AAAA\n",
        "deletion": "prune",
    }
    host.on("GET", SOURCES, Answer(200, {"sources": [SHOP], "next": None}))
    again = command("gitops", "add", "shop", "https://git.example.org/other.git")
    assert (again.status, "there is a source shop already" in again.stderr) == (1, True)
    missing = command("gitops", "add", "new", "https://a.example/b", "--gpg-keys", str(tmp_path / "no"))
    assert (missing.status, "cannot read" in missing.stderr) == (2, True)


def test_a_source_is_changed_and_fields_are_taken_away(command: Command, host: FakeHost) -> None:
    host.on("PATCH", f"{SOURCES}/shop", Answer(200, SHOP))
    changed = command("gitops", "change", "shop", "--off", "--unset", "tokenSecret")
    assert (changed.status, host.requests[-1].body) == (0, {"enabled": False, "tokenSecret": None}), changed
    assert command("gitops", "change", "shop").status == 2


def test_what_is_wrong_is_shown_and_is_the_exit_status(command: Command, host: FakeHost) -> None:
    host.on("GET", f"{SOURCES}/shop", Answer(200, SHOP))
    shown = command("gitops", "show", "shop")
    assert shown.status == 0, shown
    assert "4f2a4f2a4f2a Beg\\x1bin" in shown.stdout
    assert "disk.yaml:3:1" in shown.stdout

    host.on("GET", SOURCES, Answer(200, {"sources": [SHOP], "next": None}))
    host.on("GET", "/api/gitops/released", Answer(200, {"released": []}))
    assert command("gitops", "status").status == 0
    assert json.loads(command("gitops", "list", "--json").stdout)["sources"][0]["name"] == "shop"
    host.on("GET", SOURCES, Answer(200, {"sources": [FAILED], "next": None}))
    wrong = command("gitops", "status")
    assert (wrong.status, "shop: failed, disk.yaml:2:1: no" in wrong.stdout) == (1, True), wrong

    answers = iter([Answer(200, SHOP), Answer(200, FAILED)])
    host.on("GET", f"{SOURCES}/shop", lambda _: next(answers))
    host.on("POST", f"{SOURCES}/shop/sync", Answer(202, {"source": "shop", "job": "1"}))
    failed = command("gitops", "sync", "shop")
    assert (failed.status, "disk.yaml:2:1: no" in failed.stderr) == (1, True), failed


def test_what_cannot_be_taken_back_is_asked_first(command: Command, host: FakeHost) -> None:
    host.on("GET", f"{SOURCES}/shop", Answer(200, {**SHOP, "webhook": True}))
    host.on("DELETE", f"{SOURCES}/shop", Answer(200, {"removed": "shop", "orphaned": [{}]}))
    host.on(
        "POST", f"{SOURCES}/shop/webhook", Answer(201, {"source": "shop", "path": "/api/gitops/hooks/rfh_x"})
    )
    for words in (["remove", "shop"], ["webhook", "shop"]):
        assert command("gitops", *words).status != 0
        done = command("gitops", *words, "--yes")
        assert done.status == 0, done
    assert done.stdout == "/api/gitops/hooks/rfh_x\n"


def test_an_object_is_released_and_given_back(command: Command, host: FakeHost) -> None:
    told = {"kind": "Check", "name": "disk", "source": "shop"}
    host.on("POST", "/api/gitops/release", Answer(200, told))
    host.on("POST", "/api/gitops/give-back", Answer(200, told))
    released = command("gitops", "release", "Check", "disk", "--reason", "it burns")
    assert "ringfence gitops give-back Check disk" in released.stdout
    assert host.requests[-1].body == {"kind": "Check", "name": "disk", "reason": "it burns"}
    assert command("gitops", "give-back", "Check", "disk").stdout == "Check disk comes from shop again.\n"
