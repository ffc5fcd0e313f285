"""The examples of docs/scripts.md: each is run, and shows what the document says."""

from __future__ import annotations

import re
import shlex
import tempfile
from pathlib import Path

import pytest
from ringfence.sandbox import DEFAULT_POLICY, PolicySnapshot, overlay
from ringfence.scripts import ScriptKind, ScriptRequest, run_under

from tests.cli.conftest import Command
from tests.primitives import requires

DOCUMENT = (Path(__file__).parents[2] / "docs" / "scripts.md").read_text()
FILES = dict(re.findall(r"^```\w+ file=(\S+)\n(.*?)^```$", DOCUMENT, re.MULTILINE | re.DOTALL))
CONSOLES = re.findall(r"^```console\n(.*?)^```$", DOCUMENT, re.MULTILINE | re.DOTALL)
EXAMPLES = [part for console in CONSOLES for part in re.split(r"^\$ ", console, flags=re.MULTILINE)[1:]]
STATUS = {"healthy": 0, "degraded": 1, "unhealthy": 2, "unknown": 3}

pytestmark = requires("user namespaces", "node")


def test_there_is_an_example_of_each_kind() -> None:
    assert {Path(name).suffix for name in FILES} == {".sh", ".py", ".mjs", ".bash", ".pl", ".txt"}
    assert len(EXAMPLES) >= 9
    for kind in ("shell", "python", "esm", "bash", "program"):
        assert f"(kind {kind})" in "".join(EXAMPLES)


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda text: text.splitlines()[0][:60])
def test_an_example_shows_what_the_document_says(
    example: str, command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, text in FILES.items():
        (tmp_path / name).write_text(text)
    monkeypatch.chdir(tmp_path)
    line, _, shown = example.partition("\n")
    program, *words = shlex.split(line)
    assert program == "ringfence"
    outcome = command(*words)
    assert outcome.stdout == shown, outcome.stderr
    [state] = [word for word in STATUS if any(one.split()[:1] == [word] for one in shown.splitlines())]
    assert outcome.status == STATUS[state]


async def test_the_example_that_keeps_a_position_counts_only_what_is_new() -> None:
    with tempfile.TemporaryDirectory(dir="/var/tmp") as directory:
        log = Path(directory, "log")
        Path(directory).chmod(0o755)
        snapshot = PolicySnapshot(overlay(DEFAULT_POLICY, {"filesystem": {"hostPaths": [directory]}}))
        state, said = b"", []
        for text in ("one\nERROR\n", "one\nERROR\ntwo\n", "one\nERROR\ntwo\nERROR\nERROR\n", "ERROR\n"):
            log.write_text(text)
            request = ScriptRequest(
                ScriptKind.SHELL, FILES["new-lines.sh"], args=(str(log), "ERROR"), state=state
            )
            result = await run_under(snapshot, request)
            said.append((result.stdout, result.exit_code, result.stderr))
            state = result.kept_state or b""
    new, none = ("{} new lines\n".format, ("0 new lines\n", 0, ""))
    assert said == [(new(1), 1, ""), none, (new(2), 1, ""), (new(1), 1, "")]
