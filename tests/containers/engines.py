"""Podman and Docker themselves, with a store and a network namespace of their own; nothing of it is left afterwards.

In that namespace they make what bridges and rules they like: the machine's own network stays as it is.
"""

from __future__ import annotations

import contextlib
import os
import re
import resource
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.containers import documented
from tests.containers.building import Builder
from tests.primitives import PROGRAMS
from tests.waiting import wait_until

LOOPBACK_UP = 'ip link set lo up && exec "$@"'


@dataclass(frozen=True)
class Engine:
    """One of them: the words before its subcommands, the options that each container here needs, and its variables."""

    name: str
    words: tuple[str, ...]
    options: tuple[str, ...] = ()
    environment: dict[str, str] = field(default_factory=dict)

    def run(self, image: str, flags: Sequence[str], command: Sequence[str], *, seconds: float = 300) -> str:
        """What a container writes that ends well."""
        return self.tell("run", "--rm", *self.options, *flags, image, *command, seconds=seconds)

    def tell(self, *words: str, seconds: float = 300) -> str:
        """What the engine writes about an order that it can carry out."""
        done = subprocess.run(
            [*self.words, *words],
            capture_output=True,
            text=True,
            timeout=seconds,
            env={**os.environ, **self.environment},
        )
        assert done.returncode == 0, f"{' '.join(words)}\n{done.stdout[-4000:]}\n{done.stderr[-4000:]}"
        return done.stdout


def flags(engine: str) -> list[str]:
    """What docs/containers.md has a container started with; for Podman in the words that its table has."""
    words = iter(documented.command()[:-1])
    others = documented.other_words() if engine == "podman" else {}
    given: list[str] = []
    for word in words:
        if word in ("--publish", "--env"):
            next(words)
        elif word.startswith("--"):
            given.append(word)
        else:
            given.append(others.get(word, word).replace(documented.PROFILE.name, str(documented.PROFILE)))
    return given


def program(name: str) -> str | None:
    """Where a program is; administrators' programs are often not on a user's PATH."""
    return shutil.which(name, path=PROGRAMS)


@contextlib.contextmanager
def podman(builder: Builder) -> Iterator[Engine]:
    """Podman on the store that the images were built into; by runc, since crun takes no cgroups of both versions."""
    keeper = subprocess.Popen(["unshare", "--net", "sh", "-c", LOOPBACK_UP, "sh", "sleep", "infinity"])
    try:
        wait_until(
            lambda: Path(f"/proc/{keeper.pid}/comm").read_text() == "sleep\n", "the namespace is there"
        )
        most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        engine = Engine(
            "podman",
            (
                *("nsenter", "--target", str(keeper.pid), "--net", "podman", *builder.store),
                *("--cgroup-manager", "cgroupfs", "--runtime", "runc"),
            ),
            # By default it asks for more than a root without CAP_SYS_RESOURCE may give.
            ("--ulimit", f"nofile={most}:{most}", "--ulimit", "nproc=4096:4096"),
        )
        try:
            yield engine
        finally:
            engine.tell("rm", "--force", "--all")
            engine.tell("volume", "rm", "--force", "--all")
    finally:
        keeper.kill()
        keeper.wait()


@contextlib.contextmanager
def docker(directory: Path) -> Iterator[Engine]:
    """A daemon of Docker's that only this test knows of."""
    socket, log = directory / "docker.sock", directory / "dockerd.log"
    places = (
        "--data-root",
        directory / "data",
        "--exec-root",
        directory / "exec",
        "--pidfile",
        directory / "pid",
    )
    daemon = ("dockerd", *map(str, places), "--host", f"unix://{socket}", "--group", "root")
    with log.open("wb") as file:
        process = subprocess.Popen(
            ["unshare", "--net", "sh", "-c", LOOPBACK_UP, "sh", *daemon],
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
        )
    engine = Engine("docker", ("docker",), environment={"DOCKER_HOST": f"unix://{socket}"})
    try:
        wait_until(lambda: process.poll() is not None or socket.exists(), "the daemon listens")
        assert process.poll() is None, log.read_text()[-4000:]
        yield engine
    finally:
        process.terminate()
        process.wait(60)


def has_compose() -> bool:
    """Whether Docker has its command `compose`, of a release that knows all that deploy/compose.yaml says."""
    if program("docker") is None:
        return False
    done = subprocess.run(["docker", "compose", "version", "--short"], capture_output=True, text=True)
    found = re.match(r"v?(\d+)\.(\d+)", done.stdout)
    return found is not None and (int(found[1]), int(found[2])) >= (2, 6)
