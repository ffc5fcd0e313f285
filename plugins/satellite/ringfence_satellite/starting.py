"""How somebody starts the agent of a satellite on its machine: a command, a service, a container. Pure."""

from __future__ import annotations

import ipaddress
import shlex
from dataclasses import dataclass
from urllib.parse import urlsplit

TOKEN_FILE = "/etc/ringfence/satellite/token"  # noqa: S105 - the path of a file
IMAGE = "ringfence-satellite"
"""What docs/containers.md has deploy/Dockerfile.satellite built as."""
PROFILE = "ringfence-userns.json"
FLAGS = (
    "--read-only --tmpfs /tmp --cap-drop ALL --security-opt no-new-privileges "
    f"--security-opt seccomp={PROFILE} --security-opt systempaths=unconfined --security-opt apparmor=unconfined"
)
"""What a container in which scripts run needs: docs/containers.md says why."""


@dataclass(frozen=True, slots=True)
class Starting:
    """What starts the agent of the satellite of that id, at the address by which it reaches the host."""

    id: str
    url: str

    token_file = TOKEN_FILE

    @property
    def only_here(self) -> bool:
        """Whether that address leads back to the machine which asks it, so that no other reaches the host by it."""
        name = urlsplit(self.url).hostname or ""
        try:
            address = ipaddress.ip_address(name)
        except ValueError:
            return name == "localhost" or name.endswith(".localhost")
        return address.is_loopback or address.is_unspecified

    @property
    def warning(self) -> str | None:
        """What to say of an address that no other machine can use."""
        if not self.only_here:
            return None
        return (
            f"{self.url} is reached from this machine alone. For satellites on others, have the host listen for them "
            "(RINGFENCE_HOST, or a proxy before it), and tell it its address: RINGFENCE_PUBLIC_URL=https://core.example.org"
        )

    def command(self, token_file: str = TOKEN_FILE) -> str:
        """By hand."""
        return f"ringfence agent {self._identity} --token-file {shlex.quote(token_file)}"

    def service(self, token_file: str = TOKEN_FILE) -> str:
        """By systemd: run by root, a service of the machine."""
        return f"ringfence agent install {self._identity} --token-file {shlex.quote(token_file)}"

    def container(self, token_file: str = TOKEN_FILE) -> str:
        """In a container, which may make namespaces."""
        file = shlex.quote(token_file)
        # The user of the images.
        first = f"chown 65532:65532 {file} && docker run --rm {IMAGE} doctor --print-seccomp > {PROFILE}"
        return (
            f"{first} && docker run --detach --restart unless-stopped --name ringfence-satellite {FLAGS} "
            "--volume ringfence-satellite:/var/lib/ringfence "
            f"--volume {file}:/run/ringfence/token:ro "
            f"{IMAGE} agent {self._identity} --token-file /run/ringfence/token"
        )

    @property
    def _identity(self) -> str:
        return f"--url {shlex.quote(self.url)} --client-id {shlex.quote(self.id)}"
