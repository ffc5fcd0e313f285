"""`ringfence apply` and its like: which files they send, and what they show."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import pytest

from tests.cli.conftest import Command
from tests.cli.fake_host import Answer, FakeHost

APPLY = "/api/host/apply"
CREATED = {"kind": "Check", "name": "we\x1bb", "change": "created", "place": "a.yaml:1:1"}


def answer(*changes: dict[str, Any], dry_run: bool = False) -> Answer:
    objects = [{"differences": [], "warnings": [], **one} for one in changes]
    return Answer(200, {"objects": objects, "undeclared": [], "source": "cli", "dryRun": dry_run})


def test_a_directory_is_sent_with_the_files_that_its_documents_refer_to(
    command: Command, host: FakeHost, tmp_path: Path
) -> None:
    (tmp_path / "checks").mkdir()
    (tmp_path / "checks" / "a.yaml").write_bytes(b"\xef\xbb\xbfkind: Check\r\n")
    (tmp_path / "checks" / "a.sh").write_text("exit 0\n")
    (tmp_path / ".hidden.yaml").write_text("x")
    needs = {"title": "t", "status": 422, "detail": "d", "errors": [{}], "needs": ["checks/a.sh"]}
    answers = iter([Answer(422, needs), answer(CREATED)])
    host.on("POST", APPLY, lambda _: next(answers))
    outcome = command("apply", "-f", str(tmp_path), "--reason", "why")
    assert (outcome.status, outcome.stdout) == (0, "+ Check we\\x1bb: created\n"), outcome
    [first, second] = [one.body for one in host.requests]
    assert first["files"] == [{"path": "checks/a.yaml", "text": "kind: Check\r\n"}]
    assert [one["path"] for one in second["files"]] == ["checks/a.yaml", "checks/a.sh"]
    assert (second["source"], second["reason"], second["prune"]) == ("cli", "why", False)


def test_what_leads_out_or_is_no_text_is_not_sent(command: Command, host: FakeHost, tmp_path: Path) -> None:
    outside = tmp_path / "outside.yaml"
    outside.write_text("secret")
    inside = tmp_path / "inside"
    inside.mkdir()

    def refused(*arguments: str) -> str:
        outcome = command("apply", "-f", *arguments)
        assert outcome.status != 0
        return outcome.stderr

    assert "there is no document" in refused(str(inside))
    link = inside / "a.yaml"
    link.symlink_to(outside)
    assert "leads out of" in refused(str(inside))
    link.unlink()
    link.write_bytes(b"\x7fELF\xff")
    assert "no text in UTF-8" in refused(str(inside))
    link.write_bytes(b"x" * (1024 * 1024 + 1))
    assert "is larger than" in refused(str(inside))
    link.unlink()
    os.mkfifo(link)
    assert "no regular file" in refused(str(inside))
    for missing in (inside / "nowhere" / "a.yaml", inside / "b.yaml", tmp_path / "nothing"):
        assert f"cannot read {missing}: No such file" in refused(str(missing)).replace("'", "")
        assert command("apply", "-f", str(missing)).status == 2
    assert host.requests == []
    link.unlink()
    link.write_text("x")
    needs = {"title": "t", "status": 422, "detail": "d", "errors": [{}], "needs": ["../outside.yaml"]}
    host.on("POST", APPLY, Answer(422, needs))
    assert "leads out of" in refused(str(inside))
    assert len(host.requests) == 1


@pytest.mark.parametrize(("change", "status"), [("created", 1), ("unchanged", 0)])
def test_diff_says_by_its_status_whether_anything_would_change(
    command: Command, host: FakeHost, tmp_path: Path, change: str, status: int
) -> None:
    (tmp_path / "a.yaml").write_text("x")
    host.on("POST", APPLY, answer({**CREATED, "change": change}, dry_run=True))
    assert command("diff", "-f", str(tmp_path / "a.yaml")).status == status
    assert host.only("POST").body["dryRun"] is True


def test_prune_asks_before_it_removes_anything(command: Command, host: FakeHost, tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("x")
    gone = answer({**CREATED, "change": "deleted"}, dry_run=True)
    host.on("POST", APPLY, gone)
    assert command("apply", "-f", str(tmp_path), "--prune").status == 1
    assert [one.body["dryRun"] for one in host.requests] == [True]
    assert command("apply", "-f", str(tmp_path), "--prune", "--yes").status == 0
    assert [one.body["dryRun"] for one in host.requests] == [True, False]


def test_a_part_of_the_directory_that_cannot_be_read_is_no_reason_to_prune(
    command: Command, host: FakeHost, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root, elsewhere = tmp_path / "shop", tmp_path / "elsewhere"
    for directory in (root / "checks", elsewhere):
        directory.mkdir(parents=True)
        (directory / "disk.yaml").write_text("kind: Check\n")
    (root / "policy.yaml").write_text("kind: SandboxPolicy\n")
    (root / "linked").symlink_to(elsewhere)
    assert "linked is a link to a directory" in command("apply", "-f", str(root), "--prune", "--yes").stderr
    (root / "linked").unlink()
    scandir = os.scandir

    def refused(path: str) -> Any:
        if Path(path).name == "checks":
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), path)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refused)
    assert "checks: Permission denied" in command("apply", "-f", str(root), "--prune", "--yes").stderr
    assert host.requests == []
