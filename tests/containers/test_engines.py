"""Podman and Docker start the images with the flags of docs/containers.md, and with those that doctor names."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from tests.containers import engines
from tests.containers.building import Builder, name_of, place
from tests.containers.documented import PROFILE
from tests.containers.engines import Engine
from tests.containers.runtime import Image
from tests.primitives import requires

pytestmark = [
    pytest.mark.slow,
    pytest.mark.containers,
    requires("root", "runc", "buildah", "mmdebstrap"),
]

PROGRAM = {"podman": "podman", "docker": "dockerd"}


@pytest.fixture(
    scope="module",
    params=[
        pytest.param(
            name,
            marks=pytest.mark.skipif(engines.program(needed) is None, reason=f"{needed} is not installed"),
        )
        for name, needed in PROGRAM.items()
    ],
)
def engine(
    request: pytest.FixtureRequest, builder: Builder, host_image: Image
) -> Iterator[tuple[Engine, str]]:
    """Each of them, and what it knows the host's image by."""
    with ExitStack() as held:
        if request.param == "podman":
            yield held.enter_context(engines.podman(builder)), name_of("Dockerfile")
            return
        directory = held.enter_context(place("ringfence-docker-", least=2 << 30))
        docker = held.enter_context(engines.docker(directory))
        archive = directory / "host.tar"
        builder.save(name_of("Dockerfile"), archive, "ringfence:latest")
        docker.tell("load", "--quiet", "--input", str(archive))
        archive.unlink()
        yield docker, "ringfence"


def doctor(engine: tuple[Engine, str], flags: list[str], *options: str) -> Any:
    """What doctor finds in a container that is started so."""
    running, image = engine
    return json.loads(running.run(image, flags, ["doctor", "--json", *options]))


def test_with_the_documented_flags_every_layer_holds(engine: tuple[Engine, str]) -> None:
    found = doctor(engine, engines.flags(engine[0].name), "--verify")
    assert found["container"]["missing"] == []
    # An image may only see that it is in a container.
    assert found["container"]["runtime"] in {engine[0].name, "unknown"}
    assert found["verification"]["holds"], [
        one for one in found["verification"]["evidence"] if not one["holds"]
    ]


def test_with_the_flags_that_doctor_names_in_a_container_without_any_scripts_run(
    engine: tuple[Engine, str],
) -> None:
    running, image = engine
    missing = doctor(engine, [])["container"]["missing"]
    assert [one["name"] for one in missing] == ["seccomp profile", "unmasked /proc"]
    flags = " ".join(one[running.name] for one in missing).replace(PROFILE.name, str(PROFILE)).split()
    assert doctor(engine, flags)["container"]["missing"] == []
    assert running.run(image, flags, ["run", "--quiet", "-c", "echo was run"]) == "was run\n"
