"""`ringfence doctor` says what this machine can enforce, and shows evidence when asked."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from ringfence.containers import surroundings
from ringfence.containers.profile import seccomp_profile
from ringfence.containers.surroundings import Surroundings
from ringfence.sandbox.capabilities import probe as capabilities
from ringfence.sandbox.capabilities.found import Missing
from ringfence.sandbox.capabilities.probe import probe
from ringfence.scripts.running import runner

from tests.cli.conftest import Command
from tests.primitives import requires


def test_each_primitive_is_there_or_has_a_reason(command: Command) -> None:
    document = command("doctor", "--json").json
    assert document["summary"]
    primitives = [
        one for one in document["capabilities"].values() if isinstance(one, dict) and "available" in one
    ]
    assert len(primitives) > 8
    assert all(one["available"] or one["reason"] for one in primitives)


def test_what_is_missing_comes_with_what_to_do(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    bare = replace(probe(), nft=Missing(reason="nft is \x1b[1mnot installed"))
    monkeypatch.setattr(capabilities, "probe", lambda: bare)
    shown = command("doctor").stdout
    assert r"nft is \x1b[1mnot installed" in shown
    assert "nft: for entries without ports" in shown


@requires("user namespaces")
def test_the_evidence_is_shown_and_holds(command: Command) -> None:
    outcome = command("doctor", "--verify", "--json")
    verification = outcome.json["verification"]
    assert outcome.status == 0, verification
    assert verification["holds"] is True
    layers = {one["layer"] for one in verification["evidence"]}
    assert layers >= {"filesystem", "network", "privilege", "resources", "syscalls"}


@requires("user namespaces", "root")
def test_a_layer_that_is_turned_off_is_seen_not_to_hold(command: Command, tmp_path: Path) -> None:
    file = tmp_path / "policy.json"
    # With the files off, everything that the host's kernel shows would be tried.
    file.write_text('{"privilege": {"mode": "inherit"}}')
    outcome = command("doctor", "--verify", "--policy", str(file))
    assert outcome.status == 1
    assert "privilege    NO" in outcome.stdout
    assert "Not every layer held" in outcome.stdout


def test_a_policy_without_verify_is_a_usage_mistake(command: Command) -> None:
    assert command("doctor", "--policy", "x.json").status == 2


def test_a_wrapper_that_there_is_not_is_told_with_those_that_there_are(
    command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RINGFENCE_WRAPPER", "docker")
    monkeypatch.setattr(runner, "_runner", None)
    outcome = command("doctor")
    assert outcome.status == 2
    assert "RINGFENCE_WRAPPER must be bubblewrap or nsjail, not 'docker'" in outcome.stderr


def test_the_profile_for_containers_is_printed_and_nothing_else(command: Command) -> None:
    outcome = command("doctor", "--print-seccomp")
    assert outcome.status == 0
    assert outcome.stdout == seccomp_profile()
    assert command("doctor", "--print-seccomp", "--verify").status == 2


def test_what_a_container_lacks_is_told_in_the_words_of_each_runtime(
    command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(capabilities, "probe", lambda: replace(probe(), fresh_proc=Missing("refused")))
    monkeypatch.setattr(surroundings, "look", lambda: Surroundings(runtime="podman", masked="/proc/acpi"))
    shown = command("doctor").stdout
    assert "This container lacks: unmasked /proc" in shown
    for flag in ("systempaths=unconfined", "unmask=ALL", "procMount: Unmasked"):
        assert flag in shown
    document = command("doctor", "--json").json
    (one,) = document["container"]["missing"]
    assert one["podman"] == "--security-opt unmask=ALL"
    assert "freshProc" not in {each["primitive"] for each in document["advice"]}, "it is told once"


def test_outside_of_containers_nothing_is_said_of_them(
    command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(surroundings, "look", Surroundings)
    assert command("doctor", "--json").json["container"] is None
    assert "This container" not in command("doctor").stdout
