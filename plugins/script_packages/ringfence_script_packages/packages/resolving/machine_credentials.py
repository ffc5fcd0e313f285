"""The credentials that this machine's own tools have for their registries, where those tools read them.

What cannot be used here is said of the registry (`unmet`), for whoever looks why it refuses.
"""

from __future__ import annotations

import base64
import netrc
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from ringfence_script_packages.packages.resolving.registries import Registry, authorization

LARGEST_NPMRC = 1024 * 1024
_VARIABLE = re.compile(r"\$\{(\w+)\??\}")


@dataclass(frozen=True, slots=True)
class PythonCredentials:
    """What pip and uv know: `.netrc`, and the variables that uv has for the indexes with names."""

    netrc: netrc.netrc | None
    environment: Mapping[str, str]
    keyring: str | None

    def known(self, registry: Registry, name: str | None) -> Registry:
        """The registry with its credential, if its address has none and the machine has one."""
        if registry.authorization is not None or registry.origin is None:
            return registry
        try:
            if (pair := self._pair(registry.origin.host, name)) is not None:
                return replace(registry, authorization=authorization(":".join(pair)))
        except ValueError:
            return replace(registry, unmet="its password on this machine has characters that cannot be sent")
        return replace(registry, unmet=self.keyring)

    def _pair(self, host: str, name: str | None) -> tuple[str, str] | None:
        if name is not None:
            prefix = f"UV_INDEX_{re.sub(r'[^A-Z0-9]', '_', name.upper())}"
            user, password = (self.environment.get(f"{prefix}_{what}") for what in ("USERNAME", "PASSWORD"))
            if user or password:
                return user or "", password or ""
        # Not its `default`: what is for everybody is for no registry.
        if self.netrc is None or host not in self.netrc.hosts:
            return None
        login, account, secret = self.netrc.hosts[host]
        return login or account or "", secret or ""


def python_credentials(pip: Mapping[str, str], environment: Mapping[str, str]) -> PythonCredentials:
    """What this machine has for indexes of Python packages; `pip` are its settings."""
    provider = environment.get("UV_KEYRING_PROVIDER") or pip.get("keyring-provider") or "auto"
    keyring = None
    if provider not in ("auto", "disabled"):
        keyring = f"this machine asks a keyring for credentials (keyring-provider: {provider}), and Ringfence does not"
    return PythonCredentials(_netrc(environment), environment, keyring)


def _netrc(environment: Mapping[str, str]) -> netrc.netrc | None:
    home = Path(environment.get("HOME") or "/")
    for path in (
        (Path(environment["NETRC"]),) if environment.get("NETRC") else (home / ".netrc", home / "_netrc")
    ):
        try:
            return netrc.netrc(str(path))
        except (OSError, netrc.NetrcParseError, UnicodeDecodeError):
            # pip passes over such a file, too.
            continue
    return None


def npm_credential(registry: Registry, lines: Mapping[str, str]) -> Registry:
    """The registry with the credential that npm's settings have for it, or why that cannot be used."""
    place = registry.url.partition(":")[2]
    # The nearest directory that has one, as npm looks for it.
    while place.count("/") >= 2 and registry.authorization is None and registry.unmet is None:
        registry = _at(registry, f"{place.rstrip('/')}/", lines)
        if place.rstrip("/").count("/") <= 2:
            break
        place = place.rstrip("/").rpartition("/")[0]
    return registry


def _at(registry: Registry, key: str, lines: Mapping[str, str]) -> Registry:
    given = {what: lines.get(f"{key}:{what}") for what in ("_authToken", "_auth", "username", "_password")}
    for value in given.values():
        if value and (lacking := _VARIABLE.search(value)):
            return replace(
                registry,
                unmet=f"npm has its credential from the variable {lacking[1]}, which this host does not have",
            )
    if given["_authToken"]:
        return replace(registry, authorization=f"Bearer {given['_authToken']}")
    if given["_auth"]:
        return replace(registry, authorization=f"Basic {given['_auth']}")
    if given["username"] and given["_password"]:
        try:
            plain = base64.b64decode(given["_password"], validate=True).decode()
            return replace(registry, authorization=authorization(f"{given['username']}:{plain}"))
        except ValueError:
            return replace(registry, unmet="npm's _password for it is not base64")
    if lines.get(f"{key}:certfile") or lines.get(f"{key}:cert"):
        return replace(registry, unmet="npm has a client certificate for it, and Ringfence sends none")
    return registry


def npm_variables(environment: Mapping[str, str]) -> dict[str, str]:
    """What variables such as `npm_config_//npm.example/:_authToken` say, which go before all files."""
    prefix = "npm_config_"
    return {
        name[len(prefix) :]: value
        for name, value in environment.items()
        if name.lower().startswith(f"{prefix}//") and value
    }


def npmrc(path: str, environment: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """The lines of a file of npm's settings, with the variables in them."""
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            text = file.read(LARGEST_NPMRC)
    except OSError:
        return
    for line in text.splitlines():
        name, equals, value = line.strip().partition("=")
        if equals and not name.startswith(("#", ";")):
            value = value.strip().strip("'\"")
            yield (
                name.strip(),
                _VARIABLE.sub(lambda found: environment.get(found[1], _unset(found[0])), value),
            )


def _unset(written: str) -> str:
    """What npm makes of a variable that is not set: nothing of `${NAME?}`."""
    return "" if written.endswith("?}") else written
