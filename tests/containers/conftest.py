"""The images, built once for all tests of this directory that start containers."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.containers.building import Builder, place
from tests.containers.runtime import Image


@pytest.fixture(scope="session")
def builder() -> Iterator[Builder]:
    """A builder with a Debian to build on."""
    with place("ringfence-images-") as directory:
        builder = Builder(directory)
        try:
            builder.make_base()
            yield builder
        finally:
            builder.close()


@pytest.fixture(scope="session")
def host_image(builder: Builder) -> Image:
    return builder.build("Dockerfile")


@pytest.fixture(scope="session")
def satellite_image(builder: Builder, host_image: Image) -> Image:
    """It has most of its layers from the host's."""
    return builder.build("Dockerfile.satellite")


@pytest.fixture(scope="session")
def packages_of_tests(builder: Builder, host_image: Image) -> Path:
    """What pytest needs, for the Python of the images: from the packages that they were built of."""
    stage = builder.build("Dockerfile", "build")
    wanted = ("pytest", "pytest-asyncio", "pytest-xdist", "hypothesis")
    pip = ("/build/bin/pip", "install", "--quiet", "--no-index", "--find-links", "/packages")
    builder.chroot(stage, *pip, "--target", "/pytest", *wanted)
    return stage.root / "pytest"


@pytest.fixture
def directory() -> Iterator[Path]:
    """A directory for containers, which users other than root can pass through."""
    with place("ringfence-containers-", least=0) as made:
        yield made
