"""How somebody starts an agent with credentials that were just made: a command, a systemd unit, a container. Pure."""

from __future__ import annotations

import shlex
from dataclasses import dataclass

from ringfence_satellite.server.satellites import Satellite

TOKEN_FILE = "/etc/ringfence/satellite.token"  # noqa: S105 - the path of a file
IMAGE = "docker.io/library/python:3.13-slim"


@dataclass(frozen=True, slots=True)
class Handing:
    """What is shown once: the id, the token, and what to do with both on the satellite's machine."""

    id: str
    name: str
    token: str
    url: str
    file: str
    command: str
    unit: str
    container: str


def handing(satellite: Satellite, token: str, url: str) -> Handing:
    """The credentials of a satellite, and what starts its agent at the address `url`."""
    agent = f"ringfence agent --url {shlex.quote(url)} --client-id {satellite.id}"
    file = f"install -d -m 700 /etc/ringfence && (umask 077 && printf '%s\\n' {token} > {TOKEN_FILE})"
    return Handing(
        id=str(satellite.id),
        name=satellite.name,
        token=token,
        url=url,
        file=file,
        command=f"{agent} --token-file {TOKEN_FILE}",
        unit=_unit(satellite, url),
        container=_container(agent),
    )


def _unit(satellite: Satellite, url: str) -> str:
    """A unit in which runs have cgroups of their own (`Delegate=`), and the token is read by systemd alone."""
    agent = "/usr/bin/env ringfence agent"
    address = url.replace("%", "%%")
    return f"""[Unit]
Description=Ringfence satellite
Wants=network-online.target
After=network-online.target

[Service]
ExecStart={agent} --url "{address}" --client-id {satellite.id} --token-file %d/token
LoadCredential=token:{TOKEN_FILE}
Environment=RINGFENCE_AGENT_STATE_DIR=%S/ringfence
StateDirectory=ringfence
Delegate=yes
Restart=always

[Install]
WantedBy=multi-user.target
"""


def _container(agent: str) -> str:
    """A container that may make namespaces, without which there is no sandbox in it."""
    inner = (
        "apt-get update -q && apt-get install -qy bubblewrap && pip install -q ringfence && "
        f"exec {agent} --token-file {TOKEN_FILE}"
    )
    return (
        "docker run --detach --restart unless-stopped --name ringfence-satellite "
        "--security-opt seccomp=unconfined --security-opt apparmor=unconfined "
        "--security-opt systempaths=unconfined --volume /etc/ringfence:/etc/ringfence "
        f"{IMAGE} sh -c {shlex.quote(inner)}"
    )
