"""Addresses of remote repositories, and which of them are connected to. Pure.

Threat: an address is taken for an option by git or ssh, starts a program (`ext::`), holds a password that every log and
page would show, or leads to the service that tells a machine in a cloud its own credentials, be it by a name, by a
redirect or by an address that is written in an unusual way. Mechanism: only what is understood here as a whole is an
address; it holds no password; and it is the addresses that a name stands for that are looked at, and then connected to
(`environment.py`), while redirects are refused. Not covered: private networks and this machine itself, where git
servers often are; and where a proxy is named in the environment, it is the proxy that looks names up.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address
from urllib.parse import urlsplit

from ringfence.sandbox.policy.blocked import UNIQUE_LOCAL, blocked_ranges

MOST_CHARACTERS = 500
PORTS = {"https": 443, "http": 80, "ssh": 22}
SCHEMES = ("https", "ssh", "http", "file")
_HOST = re.compile(r"[A-Za-z0-9]([A-Za-z0-9.-]{0,251}[A-Za-z0-9])?")
_USER = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,63}")
_PATH = re.compile(r"/[\x21-\x7e]*")
_SHORT = re.compile(r"(?:(?P<user>[^@:/]+)@)?(?P<host>[^@:/\[\]]+):(?P<path>[^:].*)")
_BRANCH = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+/-]{0,199}")
_FOLDER = re.compile(r"[^\x00-\x1f\x7f\\:]{0,300}")
_ALWAYS = frozenset(blocked_ranges(False))
_BLOCKED = tuple(one for one in blocked_ranges(True) if one not in _ALWAYS and one.where != UNIQUE_LOCAL)


class AddressError(ValueError):
    """It is no address of a repository that is fetched here; the message says why, and holds no password."""


@dataclass(frozen=True, slots=True)
class Remote:
    """Where a repository is. `host` is empty for one in the file system."""

    scheme: str
    host: str
    port: int | None
    user: str | None
    path: str

    @property
    def url(self) -> str:
        """The address as git is told it."""
        if self.scheme == "file":
            return f"file://{self.path}"
        host = f"[{self.host}]" if ":" in self.host else self.host
        user = "" if self.user is None else f"{self.user}@"
        port = "" if self.port is None else f":{self.port}"
        return f"{self.scheme}://{user}{host}{port}{self.path}"

    @property
    def connects_to(self) -> tuple[str, int]:
        """The name and the port that are connected to."""
        return self.host, self.port or PORTS[self.scheme]


def remote_of(url: str, schemes: Collection[str] = SCHEMES) -> Remote:
    """The repository that an address names. Raises `AddressError`."""
    if len(url) > MOST_CHARACTERS:
        raise AddressError(f"an address has at most {MOST_CHARACTERS} characters")
    if not url.isascii() or not url.isprintable() or " " in url:
        raise AddressError("an address has neither blanks nor letters beside ASCII")
    short = _SHORT.fullmatch(url) if "://" not in url else None
    if short is not None:
        # As scp has it: git@host:path.
        path = short["path"] if short["path"].startswith("/") else f"/{short['path']}"
        url = f"ssh://{short['user'] + '@' if short['user'] else ''}{short['host']}{path}"
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise AddressError("this is no address of a repository") from None
    if parts.scheme not in SCHEMES:
        raise AddressError("an address begins with https:// or ssh://, or is such as git@host:path")
    if parts.scheme not in schemes:
        allowed = ", ".join(sorted(schemes))
        raise AddressError(
            f"{parts.scheme}:// is not allowed on this host, only {allowed}: see RINGFENCE_GITOPS_SCHEMES"
        )
    if parts.password is not None or (parts.username is not None and parts.scheme != "ssh"):
        raise AddressError("an address holds no password: keep that as a secret, and name it in tokenSecret")
    if parts.query or parts.fragment or "?" in url or "#" in url:
        raise AddressError("an address has neither a query nor a fragment")
    if _PATH.fullmatch(parts.path) is None or parts.path == "/":
        raise AddressError("the address names no repository on its host")
    if parts.scheme == "file":
        if parts.netloc:
            raise AddressError("a repository in the file system is file:///path")
        return Remote("file", "", None, None, parts.path)
    host = parts.hostname or ""
    if not (_is_ipv6(host) or _HOST.fullmatch(host)):
        raise AddressError("the address names no host")
    if port == 0:
        raise AddressError("there is no port 0")
    if parts.username is not None and _USER.fullmatch(parts.username) is None:
        raise AddressError("the user in the address is no name that ssh takes")
    return Remote(parts.scheme, host, port, parts.username, parts.path)


def why_refused(addresses: Sequence[str], *, link_local: bool = False) -> str | None:
    """Why these addresses, which a name stands for, are not connected to; None if they are."""
    if not addresses:
        return "it has no address"
    for one in addresses:
        found: IPv4Address | IPv6Address = ip_address(one.partition("%")[0])
        if isinstance(found, IPv6Address) and found.ipv4_mapped is not None:
            found = found.ipv4_mapped
        if link_local:
            continue
        for blocked in _BLOCKED:
            if found in blocked.where:
                return f"{one} is not connected to: {blocked.what}"
    return None


def branch_of(name: str) -> str:
    """`name`, if it can be a branch's. Raises `ValueError`."""
    is_wrong = (
        _BRANCH.fullmatch(name) is None
        or any(part in name for part in ("..", "//", "/.", "@{"))
        or name.endswith((".", "/"))
        or any(part.endswith(".lock") for part in name.split("/"))
    )
    if is_wrong:
        raise ValueError("is no name of a branch")
    return name


def folder_of(path: str) -> str:
    """`path`, within a repository, without slashes around it. Raises `ValueError`."""
    found = path.strip("/")
    parts = found.split("/") if found else []
    if _FOLDER.fullmatch(found) is None or any(part in ("", ".", "..", ".git") for part in parts):
        raise ValueError("is no path of a directory within a repository")
    return found


def _is_ipv6(host: str) -> bool:
    try:
        return ip_address(host).version == 6
    except ValueError:
        return False
