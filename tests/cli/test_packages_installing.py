"""`ringfence packages install`, `import` and `export`: what they show meanwhile, and what they say when it fails."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path
from typing import Any

from tests.cli.conftest import Command
from tests.cli.fake_host import Answer, FakeHost, Request, problem
from tests.cli.instances import RINGFENCE
from tests.cli.terminal import at_a_terminal
from tests.cli.test_packages_held import MIB, package_set
from tests.waiting import wait_until
from tests.warm_process import heed_interrupts

PACKAGES = "/api/script-packages/packages"
SET = f"{PACKAGES}/sets/default"
ERROR = {
    "reason": "no-file",
    "package": "tea",
    "message": "there is only its source, which would run its code to be built",
    "hint": "choose another package",
}


def installing(done: int) -> dict[str, Any]:
    progress = {
        "phase": "fetching",
        "doing": "tea 1.0",
        "packages": 2,
        "packagesDone": 1,
        "bytes": 40 * MIB,
        "bytesDone": done,
    }
    return {**package_set(0), "state": "installing", "progress": progress}


def asks(host: FakeHost, *states: dict[str, Any]) -> None:
    """Have the set be so, one state after the other, and the last one from then on."""
    host.on("POST", f"{SET}/install", Answer(202, states[0]))
    left = list(states)

    def answer(_: Request) -> Answer:
        return Answer(200, left.pop(0) if len(left) > 1 else left[0])

    host.on("GET", SET, answer)


def test_an_installation_that_fails_names_the_package_the_reason_and_what_to_do(
    command: Command, host: FakeHost
) -> None:
    asks(host, installing(0), {**package_set(0), "state": "failed", "error": ERROR})
    outcome = command("packages", "install")
    assert outcome.status == 1
    assert "the set default is not installed: tea: there is only its source" in outcome.stderr
    assert "choose another package" in outcome.stderr
    assert outcome.stdout == ""
    told = command("packages", "install", "--json")
    assert told.json["error"]["problem"] == ERROR


def test_an_installation_shows_how_far_it_is(host: FakeHost) -> None:
    asks(host, *[installing(20 * MIB)] * 4, {**package_set(1), "progress": None})
    shown = at_a_terminal(120, "packages", "install", environ=environ(host))
    assert "fetching" in shown
    assert "50%" in shown
    assert "tea 1.0" in shown
    assert "The set default is installed" in shown


def test_an_interrupt_leaves_the_installation_to_the_host_and_says_so(host: FakeHost) -> None:
    asks(host, installing(0))
    process = subprocess.Popen(
        [*RINGFENCE, "packages", "install"],
        env={**os.environ, **environ(host)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=heed_interrupts,
    )
    wait_until(lambda: len(host.requests) > 2, "it waits")
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert "the host goes on installing the set" in err
    assert "ringfence packages status" in err
    assert "Traceback" not in err + out


def test_an_import_shows_how_much_is_taken_in_and_sends_all_of_it(host: FakeHost, tmp_path: Path) -> None:
    content = os.urandom(3 * MIB)
    file = tmp_path / "forms.tar"
    file.write_bytes(content)
    done = Answer(200, {"set": "forms", "files": 2, "lockHash": "a" * 64})
    host.on("POST", f"{PACKAGES}/import", done)
    shown = at_a_terminal(120, "packages", "import", str(file), environ=environ(host))
    assert "importing" in shown
    assert "/3.0 MiB" in shown
    assert "The set forms is installed: 2 files" in shown
    assert host.only("POST").body == content


def test_what_cannot_be_imported_or_exported_is_told(
    command: Command, host: FakeHost, tmp_path: Path
) -> None:
    file = tmp_path / "forms.tar"
    missing = command("packages", "import", str(file))
    assert (missing.status, "cannot be read: No such file" in missing.stderr) == (1, True)
    file.write_bytes(b"no archive")
    refusal = problem(422, "The archive cannot be taken in", detail="it is no tar archive")
    host.on("POST", f"{PACKAGES}/import", refusal)
    refused = command("packages", "import", str(file))
    assert (refused.status, "it is no tar archive" in refused.stderr) == (1, True)
    never = problem(409, "The set is not installed", detail="the set default was never installed")
    host.on("GET", f"{SET}/archive", never)
    out = tmp_path / "out.tar"
    outcome = command("packages", "export", str(out))
    assert (outcome.status, "was never installed" in outcome.stderr) == (1, True)
    assert list(tmp_path.glob("out*")) == []
    unwritable = command("packages", "export", str(tmp_path / "no" / "out.tar"))
    assert (unwritable.status, "cannot be written" in unwritable.stderr) == (1, True)


def environ(host: FakeHost) -> dict[str, str]:
    return {"RINGFENCE_URL": host.url, "RINGFENCE_TOKEN": "x"}
