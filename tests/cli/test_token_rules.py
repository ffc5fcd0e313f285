"""`ringfence token rules` tells what a token can be made to allow."""

from __future__ import annotations

from tests.cli.conftest import Command
from tests.cli.fake_host import Answer, FakeHost


def test_each_rule_is_told_with_its_meaning_and_who_declares_it(command: Command, host: FakeHost) -> None:
    rule = {"name": "secrets.secret.manage", "description": "Set and delete secrets", "narrowable": False}
    host.on("GET", "/api/host/rules", Answer(200, {"rules": [rule]}))
    shown = command("token", "rules").stdout.splitlines()[-1].split()
    assert [shown[0], *shown[-2:]] == ["secrets.secret.manage", "secrets", "–"]
    assert "Set and delete secrets" in command("token", "rules").stdout
    assert command("token", "rules", "-o", "name").stdout == "secrets.secret.manage\n"
