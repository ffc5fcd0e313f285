"""Which registries packages come from, and what each may be told. Pure.

Threat: a registry, or what it answers, sends us elsewhere: to a place that should not see a credential, to one without
TLS, or to the machine's own files. Mechanism: what is believed of an address is decided here alone: https anywhere,
http only to a registry on this machine's loopback, `file` only beneath what the machine's own configuration names;
and a credential belongs to one origin. Not covered: which https hosts an index names for its files; what comes from
there is believed by hash.
"""

from __future__ import annotations

import base64
import ipaddress
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, NamedTuple
from urllib.parse import unquote, urlsplit

from pydantic import AfterValidator, ConfigDict, Field, StringConstraints
from ringfence import WireModel

DEFAULT_PORTS = {"http": 80, "https": 443}


class Origin(NamedTuple):
    """Whom a credential is for: a scheme, a host and a port."""

    scheme: str
    host: str
    port: int


def origin_of(url: str) -> Origin | None:
    """The origin of an address of http or https; None for any other, and for one that cannot be read."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        return None
    if parts.scheme not in DEFAULT_PORTS or not parts.hostname:
        return None
    return Origin(parts.scheme, parts.hostname.rstrip("."), port or DEFAULT_PORTS[parts.scheme])


def is_loopback(host: str) -> bool:
    """Whether a host, as an address names it, is this machine for certain."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def registry_address(url: str) -> str:
    """The address of a registry, without the slash at its end.

    Raises:
        ValueError: if it cannot be one; the address is not quoted, as it may hold a password.
    """
    origin = origin_of(url)
    if origin is None or not url.isprintable() or " " in url:
        raise ValueError("must be an address such as https://packages.example.com/simple")
    parts = urlsplit(url)
    if parts.username is not None or parts.password is not None:
        raise ValueError("must not hold a name and a password: keep them as a secret, and name that")
    if parts.query or parts.fragment:
        raise ValueError("must have neither ? nor #")
    if origin.scheme == "http" and not is_loopback(origin.host):
        raise ValueError("must be https, unless it is on this machine's loopback")
    return url.rstrip("/")


def _scope(text: str) -> str:
    if re.fullmatch(r"@[a-z0-9~][a-z0-9._~-]{0,99}", text) is None:
        raise ValueError("must be a scope of npm, such as @company")
    return text


Address = Annotated[str, StringConstraints(max_length=2000), AfterValidator(registry_address)]
SecretName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z][A-Za-z0-9_-]{0,63}$")]
Scope = Annotated[str, AfterValidator(_scope)]


class RegistrySettings(WireModel):
    """What an administrator says of registries. What is left out is asked of the machine's own pip and npm.

    Attributes:
        python_indexes: simple indexes (PEP 503, PEP 691). A package comes from the first that has it.
        npm_registry: where packages of npm come from.
        npm_scopes: other registries for scopes of npm.
        credentials: the names of secrets, each for the registry of an address. A secret that is `NAME:PASSWORD` is
            sent as that (Basic), any other as a token (Bearer), to that registry alone.
    """

    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)

    python_indexes: Annotated[tuple[Address, ...], Field(max_length=20)] = ()
    npm_registry: Address | None = None
    npm_scopes: Annotated[dict[Scope, Address], Field(max_length=200)] = Field(default_factory=dict)
    credentials: Annotated[dict[Address, SecretName], Field(max_length=100)] = Field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Registry:
    """One registry. `url` has no password in it.

    `authorization` is what the machine's own configuration has for it (a header's value), and `secret` the name of the
    secret that an administrator named. A `flat` one is a directory of this machine with files and no index. `unmet` is
    what the machine is configured to do for its credential and Ringfence does not: told where the registry wants one.
    """

    url: str
    authorization: str | None = field(default=None, repr=False)
    secret: str | None = None
    flat: bool = False
    unmet: str | None = None

    @property
    def origin(self) -> Origin | None:
        """Whom its credential is for."""
        return origin_of(self.url)

    @property
    def directory(self) -> str | None:
        """Where on this machine it is, if that is where it is."""
        return file_path(self.url)


@dataclass(frozen=True, slots=True)
class Registries:
    """All registries that packages may come from.

    `merged` says that every index counts for every package, as pip means it, and not only the first that has it.
    `proxy` is asked in their place, but for the hosts in `direct`; None: as the variables of the process say.
    """

    python: tuple[Registry, ...] = ()
    npm: Registry | None = None
    npm_scopes: Mapping[str, Registry] = field(default_factory=dict)
    merged: bool = False
    cafiles: tuple[str, ...] = ()
    proxy: str | None = field(default=None, repr=False)
    direct: tuple[str, ...] = ()

    @property
    def all(self) -> tuple[Registry, ...]:
        """Each of them."""
        return (*self.python, *((self.npm,) if self.npm else ()), *self.npm_scopes.values())

    def npm_for(self, name: str) -> Registry | None:
        """The registry of a package of npm."""
        scope, slash, _ = name.partition("/")
        return self.npm_scopes.get(scope, self.npm) if slash else self.npm

    def owner_of(self, url: str) -> Registry | None:
        """The registry whose credential an address is sent: of its origin, the one whose path is nearest."""
        origin = origin_of(url)
        if origin is None:
            return None
        theirs = [each for each in self.all if each.origin == origin and (each.authorization or each.secret)]
        path = urlsplit(url).path

        def nearness(registry: Registry) -> int:
            mine = f"{urlsplit(registry.url).path.rstrip('/')}/"
            return len(mine) if path.startswith(mine) else 0

        return max(theirs, key=nearness, default=None)

    def unmet_at(self, url: str) -> str | None:
        """What the machine would do for a credential of this origin that Ringfence does not."""
        origin = origin_of(url)
        return next((each.unmet for each in self.all if each.unmet and each.origin == origin), None)

    def why_not(self, url: str) -> str | None:
        """Why an address is not asked at all; None if it may be."""
        if (path := file_path(url)) is not None:
            return None if self._has_file(path) else "it is a file that no registry of this machine holds"
        origin = origin_of(url)
        if origin is None:
            return "it is no address of https"
        parts = urlsplit(url)
        if parts.username is not None or parts.password is not None:
            return "it holds a name and a password"
        if origin.scheme == "https" or any(each.origin == origin for each in self.all):
            return None
        return "it is not https"

    def _has_file(self, path: str) -> bool:
        real = os.path.realpath(path)
        return any(
            real.startswith(f"{os.path.realpath(root)}/")
            for each in self.python
            if (directory := each.directory) is not None
            # An index is beside the files that it names.
            for root in (directory if each.flat else os.path.dirname(directory),)
            if root != "/"
        )


def file_path(url: str) -> str | None:
    """The path of a `file` address of this machine."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return None
    if parts.scheme != "file" or parts.netloc not in ("", "localhost"):
        return None
    path = unquote(parts.path)
    return path if path.startswith("/") and path.isprintable() else None


def authorization(secret: str) -> str:
    """The header for a credential: `NAME:PASSWORD` as Basic, anything else as a Bearer's token.

    Raises:
        ValueError: if it cannot be sent.
    """
    if not secret.isascii() or not secret.isprintable() or not secret:
        raise ValueError("it has characters that cannot be sent")
    if ":" in secret:
        return f"Basic {base64.b64encode(secret.encode()).decode()}"
    return f"Bearer {secret}"


def without_password(url: str) -> tuple[str, str | None]:
    """An address as tools have it, in two: the address alone, and the header for the name and password in it."""
    parts = urlsplit(url)
    if parts.username is None and parts.password is None:
        return url.rstrip("/"), None
    host = parts.netloc.rpartition("@")[2]
    pair = f"{unquote(parts.username or '')}:{unquote(parts.password or '')}"
    return parts._replace(netloc=host).geturl().rstrip("/"), authorization(pair)
