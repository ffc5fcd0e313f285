"""What git is told beside its arguments: nothing of this machine's own configuration, and as little as it needs.

Threat: git runs programs that a configuration names (hooks, file system monitors, filters, credential helpers, pagers),
follows a redirect with the token of another host, asks at a terminal, or fetches from where the remote says. Mechanism:
neither the system's nor a user's configuration is read; what could start a program is switched off; protocols are
listed; redirects are refused; a token is sent to the one address alone, and stands in the environment, not among the
arguments; ssh believes the given keys of hosts and no others. There is no work tree, so nothing is checked out: no
symbolic link, no filter, no submodule.
"""

from __future__ import annotations

import base64
import os
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ringfence_gitops.remotes.address import Remote

PASSED = (
    *(
        "HTTP_PROXY",
        "HTTPS_PROXY",
        "ALL_PROXY",
        "NO_PROXY",
        "http_proxy",
        "https_proxy",
        "all_proxy",
        "no_proxy",
    ),
    *("SSL_CERT_FILE", "SSL_CERT_DIR", "TZ"),
)
"""What git is given of the environment: what leads it through a proxy, and which authorities it trusts."""
CONNECT_SECONDS = 15
STALLED_SECONDS = 20
_SETTINGS = {
    "core.hooksPath": "/dev/null",
    "core.fsmonitor": "false",
    "core.untrackedCache": "false",
    "core.pager": "cat",
    "core.askPass": "true",
    "core.protectNTFS": "true",
    "core.protectHFS": "true",
    "core.bigFileThreshold": "1m",
    "core.packedGitWindowSize": "16m",
    "core.packedGitLimit": "128m",
    "credential.helper": "",
    "protocol.allow": "never",
    "protocol.version": "2",
    "transfer.fsckObjects": "true",
    "transfer.bundleURI": "false",
    "transfer.unpackLimit": "1",
    "fetch.unpackLimit": "1",
    "fetch.recurseSubmodules": "false",
    "submodule.recurse": "false",
    "http.followRedirects": "false",
    "http.lowSpeedLimit": "1",
    "http.lowSpeedTime": str(STALLED_SECONDS),
    "http.sslVerify": "true",
    "gc.auto": "0",
    "maintenance.auto": "false",
    "pack.threads": "1",
    "pack.windowMemory": "32m",
    "pack.deltaCacheSize": "32m",
    "advice.detachedHead": "false",
    "gpg.x509.program": "false",
    "safe.directory": "*",
}


@dataclass(frozen=True, slots=True, repr=False)
class Credentials:
    """What the remote is shown. `known_hosts` are the keys of hosts that are believed."""

    username: str = "git"
    token: str | None = None
    ssh_key: str | None = None
    known_hosts: str | None = None

    @property
    def hidden(self) -> tuple[str, ...]:
        """What stands in no message."""
        found = [one for one in (self.token, self.ssh_key) if one]
        if self.token:
            found.append(_basic(self.username, self.token))
        return tuple(found)


@dataclass(frozen=True, slots=True)
class Environment:
    """What git is told: variables, and which files it reads beside its own."""

    variables: Mapping[str, str]
    readable: Sequence[str] = field(default=())


def environment(
    directory: Path, remote: Remote, credentials: Credentials, addresses: Sequence[str]
) -> Environment:
    """The environment of every git for one fetch. Writes the keys into `directory`, where nobody else reads."""
    home = directory / "home"
    home.mkdir(mode=0o700, exist_ok=True)
    settings: list[tuple[str, str]] = [*_SETTINGS.items(), (f"protocol.{remote.scheme}.allow", "always")]
    if remote.scheme in ("http", "https"):
        host, port = remote.connects_to
        if addresses:
            shown = ",".join(f"[{one}]" if ":" in one else one for one in addresses)
            settings.append(("http.curloptResolve", f"{host}:{port}:{shown}"))
        if credentials.token:
            header = f"Authorization: Basic {_basic(credentials.username, credentials.token)}"
            settings.append((f"http.{remote.url}.extraHeader", header))
    variables = {name: os.environ[name] for name in PASSED if os.environ.get(name)}
    variables |= {
        "PATH": "/usr/local/bin:/usr/bin:/bin",
        "HOME": str(home),
        "XDG_CONFIG_HOME": str(home),
        "TMPDIR": str(directory),
        "GNUPGHOME": str(home / "gnupg"),
        "LC_ALL": "C",
        "GIT_DIR": str(directory / "repository"),
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_CONFIG_SYSTEM": "/dev/null",
        "GIT_CONFIG_GLOBAL": "/dev/null",
        "GIT_ATTR_NOSYSTEM": "1",
        "GIT_TERMINAL_PROMPT": "0",
        "GIT_ASKPASS": "true",
        "SSH_ASKPASS": "true",
        "GIT_ALLOW_PROTOCOL": remote.scheme,
        "GIT_PROTOCOL_FROM_USER": "0",
        "GIT_LITERAL_PATHSPECS": "1",
        "GIT_NO_REPLACE_OBJECTS": "1",
        "GIT_OPTIONAL_LOCKS": "0",
        "GIT_LFS_SKIP_SMUDGE": "1",
        "GIT_CONFIG_COUNT": str(len(settings)),
    }
    for number, (key, value) in enumerate(settings):
        variables |= {f"GIT_CONFIG_KEY_{number}": key, f"GIT_CONFIG_VALUE_{number}": value}
    if (authorities := variables.get("SSL_CERT_FILE")) is not None:
        variables["GIT_SSL_CAINFO"] = authorities
    readable = [variables[one] for one in ("SSL_CERT_FILE", "SSL_CERT_DIR") if one in variables]
    if remote.scheme == "ssh":
        variables["GIT_SSH_COMMAND"] = _ssh(directory, remote, credentials, addresses)
        variables["GIT_SSH_VARIANT"] = "ssh"
    if remote.scheme == "file":
        readable.append(remote.path)
    return Environment(variables, readable)


def is_proxied(remote: Remote) -> bool:
    """Whether the environment names a proxy for such an address, which looks names up in our place."""
    names = (f"{remote.scheme}_proxy", "all_proxy")
    return remote.scheme in ("http", "https") and any(
        os.environ.get(one) or os.environ.get(one.upper()) for one in names
    )


def _ssh(directory: Path, remote: Remote, credentials: Credentials, addresses: Sequence[str]) -> str:
    known, key = directory / "known_hosts", directory / "ssh_key"
    _write(known, credentials.known_hosts or "")
    _write(key, (credentials.ssh_key or "").strip() + "\n")
    host, port = remote.connects_to
    options = {
        "IdentitiesOnly": "yes",
        "IdentityAgent": "none",
        "IdentityFile": _literal(key),
        "UserKnownHostsFile": _literal(known),
        "GlobalKnownHostsFile": "/dev/null",
        "StrictHostKeyChecking": "yes",
        "UpdateHostKeys": "no",
        "CheckHostIP": "no",
        "HostKeyAlias": host if port == 22 else f"[{host}]:{port}",
        "HostName": addresses[0] if addresses else host,
        "BatchMode": "yes",
        "PreferredAuthentications": "publickey",
        "ConnectTimeout": str(CONNECT_SECONDS),
        "ServerAliveInterval": "5",
        "ServerAliveCountMax": "4",
        "ClearAllForwardings": "yes",
        "ForwardAgent": "no",
        "PermitLocalCommand": "no",
        "ProxyCommand": "none",
        "ControlPath": "none",
        "LogLevel": "ERROR",
    }
    words = ["ssh", "-F", "/dev/null"]
    for name, value in options.items():
        words += ["-o", f"{name}={value}"]
    return shlex.join(words)


def _literal(path: Path) -> str:
    """As ssh takes it in an option: a blank would end it, and a percent sign begin a token (ssh_config(5))."""
    return '"' + str(path).replace("%", "%%") + '"'


def _write(path: Path, content: str) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(content)


def _basic(username: str, token: str) -> str:
    return base64.b64encode(f"{username}:{token}".encode()).decode()
