"""How somebody starts an agent with credentials that were just made: a command, a service, a container. Pure."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from pathlib import PurePath

from ringfence_satellite.server.satellites import Satellite
from ringfence_satellite.starting import TOKEN_FILE, Starting


@dataclass(frozen=True, slots=True)
class Handing:
    """What is shown once: the id, the token, and what to do with both on the satellite's machine."""

    id: str
    name: str
    token: str
    url: str
    warning: str | None
    file: str
    command: str
    service: str
    container: str


def handing(satellite: Satellite, token: str, url: str) -> Handing:
    """The credentials of a satellite, and what starts its agent at the address `url`."""
    starting = Starting(str(satellite.id), url)
    directory = PurePath(TOKEN_FILE).parent
    keeping = f"printf '%s\\n' {shlex.quote(token)} > {TOKEN_FILE}"
    return Handing(
        id=str(satellite.id),
        name=satellite.name,
        token=token,
        url=url,
        warning=starting.warning,
        file=f"install -d -m 700 {directory} && (umask 077 && {keeping})",
        command=starting.command(),
        service=starting.service(),
        container=starting.container(),
    )
