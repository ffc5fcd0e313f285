"""`ringfence automation`: definitions from files hold on a real host, and what is wrong has its place in the file."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest
from ringfence.documents.differing import differences
from ringfence.testing import RunHost, installed, served
from ringfence_automations.commands.automation import app
from typer.testing import CliRunner, Result

from tests.automations.definitions.samples import SMALL


async def test_definitions_of_files_hold_and_are_shown(
    run_host: RunHost, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    host = await run_host(plugins=installed("automations", "notifications"))
    file = tmp_path / "small.yaml"

    async def command(*words: str, stdin: str | None = None) -> Result:
        return await asyncio.to_thread(CliRunner().invoke, app, list(words), input=stdin)

    async def said(*words: str, stdin: str | None = None) -> str:
        result = await command(*words, stdin=stdin)
        assert result.exit_code == 0, result.output + str(result.exception)
        return result.stdout

    async with served(host) as url:
        monkeypatch.setenv("RINGFENCE_URL", url)
        monkeypatch.setenv("RINGFENCE_TOKEN", host.data_dir.admin_token_path.read_text().strip())
        assert "There is no automation yet" in await said("list")

        file.write_text(f"{SMALL}---\n{SMALL.replace('small', 'other')}")
        assert "small would be created, at revision 1." in await said("apply", "-f", str(file), "--dry-run")
        assert "other is created, at revision 1." in await said("apply", "-f", str(file))
        assert "other is unchanged, at revision 1." in await said("apply", str(file))
        assert "name a file with definitions" in str((await command("apply")).exception)
        changed = SMALL.replace("stop: {}", "stop: {status: failed}")
        told = await said("apply", "-f", "-", "--dry-run", stdin=changed)
        assert '+ steps[0].stop.status: "failed"' in told
        [applied] = json.loads(await said("apply", "-f", "-", "--json", stdin=changed))["automations"]
        assert (applied["change"], applied["revision"]) == ("updated", 2)

        tells = "name: tells\nsteps: [{notify: {channel: nobody, text: hello}}]\n"
        told = (await command("apply", "-f", "-", "--dry-run", stdin=tells)).stderr
        assert "warning: 2:28: steps[0].notify.channel: there is no channel nobody: add it with" in told

        file.write_text("name: small\nsteps:\n  - stop: {staus: failed}\n    when: foo\nmode: singl\n")
        result = await command("apply", "-f", str(file))
        lines = str(result.exception).splitlines()
        assert result.exit_code == 1
        assert lines[1] == f"{file}:3:12: steps[0].stop.staus: staus is not known here: did you mean status?"
        assert lines[2].startswith(f"{file}:4:11: steps[0].when: foo is not known here: there is")
        assert lines[3].startswith(f"{file}:5:7: mode: this must be 'single'")
        assert len(lines) == 4

        assert [one["name"] for one in json.loads(await said("list", "--json"))["automations"]] == [
            "other",
            "small",
        ]
        assert "by hand" in await said("list")
        assert '"status": "failed"' in await said("show", "small")
        assert '"status": "failed"' not in await said("show", "small", "--revision", "1")
        assert "small is disabled." in await said("disable", "small", "--reason", "noise")
        assert "small is disabled already." in await said("disable", "small")
        history = await said("history", "small")
        assert "+ enabled: false" in history
        assert "noise" in history
        assert "small is enabled." in await said("enable", "small")
        assert "small is deleted." in await said("delete", "small", "--yes")
        assert "deleted" in await said("history", "small")
        gone = await command("show", "small")
        assert str(gone.exception) == "there is no automation small"


def test_differences_are_told_by_their_places() -> None:
    before = {"a": 1, "b": [1, 2, 3], "c": {"d": "x" * 100}, "e": None}
    after = {"a": 1, "b": [1, 4], "c": {"d": "y"}, "f": {"g": True}}
    assert [str(one) for one in differences(before, after)] == [
        "~ b[1]: 2 → 4",
        "- b[2]: 3",
        f'~ c.d: "{"x" * 58}… → "y"',
        "- e: null",
        '+ f: {"g": true}',
    ]
