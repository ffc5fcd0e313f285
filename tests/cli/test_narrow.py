"""Help in a narrow terminal: no name of an option is cut off, of any command."""

from __future__ import annotations

import pytest

from tests.cli.conftest import Command
from tests.cli.test_wrong_command_lines import TREE


@pytest.mark.parametrize("columns", [40, 60])
def test_each_option_can_be_read_in_a_narrow_terminal(
    columns: int, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    for path in [("check", "create"), ("run",), ("gitops", "add"), ("agent", "install"), ("up",), ()]:
        told = command(*path, "--help").stdout
        shown = [one for one in TREE[path].params if not getattr(one, "hidden", True)]
        names = [name for one in shown for name in one.opts if name.startswith("-")]
        assert [name for name in names if name not in told] == [], path


def test_a_mistake_is_told_in_a_narrow_terminal_too(
    command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    wrong = command("check", "create", "disk", "--no-such-option")
    assert (wrong.status, wrong.stdout) == (2, "")
    assert "No such option" in wrong.stderr
    assert "╭" not in wrong.stderr
