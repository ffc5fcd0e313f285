"""`ringfence demo`: each step is checked, and nothing is left behind, however it ends."""

from __future__ import annotations

import json
import signal
import subprocess
from pathlib import Path

import pytest
from ringfence_satellite.commands.demo.narration import Narration, StepFailed, check
from ringfence_satellite.commands.demo.stage import outward_address

from tests.cli.instances import RINGFENCE, Command, all_gone, names_in
from tests.primitives import has, requires
from tests.waiting import wait_until

FILTERS = has("relay") or all(map(has, ("tun", "slirp4netns", "nft")))
"""Whether this machine can let scripts through to one address. Elsewhere the demo shows that they are refused."""


@requires("user namespaces")
@pytest.mark.slow
def test_every_step_does_what_it_says(open_directory: Path) -> None:
    finished = subprocess.run(
        [*RINGFENCE, "demo", "--json"],
        capture_output=True,
        text=True,
        timeout=300,
        env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "TMPDIR": str(open_directory)},
    )
    story = json.loads(finished.stdout)
    assert finished.returncode == 0, story
    assert story["ok"] is True
    assert all(step["ok"] for step in story["steps"])
    assert len(story["steps"]) >= 9
    if outward_address() is not None:
        let_through, refused = "let through to it, and to no other port", "cannot filter an allowlist"
        assert any((let_through if FILTERS else refused) in step["step"] for step in story["steps"])
    assert names_in(open_directory) == set()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("moment", "number", "status"),
    [
        ("1. A host starts", signal.SIGTERM, 143),
        ("2. Two satellites connect", signal.SIGINT, 130),
        ("2. Two satellites connect", signal.SIGHUP, 129),
    ],
)
def test_an_interrupted_demo_cleans_up(open_directory: Path, moment: str, number: int, status: int) -> None:
    command = Command("demo", TMPDIR=str(open_directory))
    try:
        command.until_it_says(moment)
        wait_until(lambda: len(command.family()) > 0, "nothing was started")
        assert command.signalled(number) == status
        assert "Interrupted: stopping" in command.output
        wait_until(lambda: all_gone(command.family()), f"left over: {command.family()}")
    finally:
        command.end()
    assert names_in(open_directory) == set()
    assert "Traceback" not in command.output


@pytest.mark.slow
def test_an_impatient_user_does_not_keep_it_from_cleaning_up(open_directory: Path) -> None:
    command = Command("demo", TMPDIR=str(open_directory))
    try:
        command.until_it_says("2. Two satellites connect")
        family = set(command.family())

        def insisted() -> bool:
            command.process.send_signal(signal.SIGTERM)
            return command.process.poll() is not None

        wait_until(insisted, "it ends")
        assert command.ended() == 143
        wait_until(lambda: all_gone(family), f"left over: {family}")
    finally:
        command.end()
    assert names_in(open_directory) == set()
    assert "Traceback" not in command.output


def test_a_failed_step_ends_the_story_and_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    narration = Narration(quiet=False)
    with narration.told():
        with narration.step("The sky is green") as step:
            step.fact("colour", "blue\x1b[2J")
            check(False, "it is blue")
        raise AssertionError("the story went on")
    document = narration.document()
    assert not narration.ok
    assert document["ok"] is False
    assert document["steps"][0]["error"] == "it is blue"
    assert "✗ it is blue" in capsys.readouterr().out


def test_a_fault_in_a_step_is_not_taken_for_a_story() -> None:
    narration = Narration(quiet=True)
    with pytest.raises(ZeroDivisionError), narration.told(), narration.step("Divide"):
        raise ZeroDivisionError
    assert not narration.ok


def test_check_raises_what_happened_instead() -> None:
    check(True, "never")
    with pytest.raises(StepFailed, match="instead"):
        check(False, "instead")
