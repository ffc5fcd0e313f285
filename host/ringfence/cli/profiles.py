"""The hosts that somebody has signed in to, each with its token: what `ringfence login` keeps.

Threat: a token is all that it takes to be somebody at a host. Mechanism: the file is made for its owner alone (0600),
is not read if others could read it, and a profile's token is sent to that profile's address and no other. With
`--keyring` the token is in the user's keyring instead, by the library `keyring`. Not covered: programs that run as the
same user.
"""

from __future__ import annotations

import contextlib
import fcntl
import importlib
import json
import os
import re
import stat
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Self

from ringfence.process.errors import CliError, UsageMistake
from ringfence.process.trust import TlsFiles

LOCAL = "local"
"""The name that stands for the host on this machine, and can be no profile's."""
FILE = "profiles.json"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_SERVICE = "ringfence"


@dataclass(frozen=True, slots=True)
class Profile:
    """A host, and how to sign in there. The token is None where the keyring has it."""

    name: str
    url: str
    token: str | None = field(repr=False)
    tls: TlsFiles = field(default_factory=TlsFiles)

    def secret(self) -> str:
        """The token. Raises `CliError` if the keyring does not give it."""
        if self.token is not None:
            return self.token
        found = _keyring("get_password", self.name)
        if not found:
            raise CliError(
                f"the keyring has no token of the profile {self.name}",
                hint=f"Sign in again: ringfence login {self.url} --profile {self.name} --keyring",
            )
        return str(found)


@dataclass(frozen=True, slots=True)
class Profiles:
    """All profiles by name, and the one that commands use when nothing else is said."""

    path: Path | None
    all: Mapping[str, Profile] = field(default_factory=dict)
    current: str | None = None

    @classmethod
    def read(cls, environ: Mapping[str, str] = os.environ) -> Self:
        """What is kept; nothing for a user who has never signed in.

        Raises:
            CliError: if the file cannot be read, or others can read it.
        """
        directory = config_dir(environ)
        return cls(None) if directory is None else cls._at(directory / FILE)

    @classmethod
    def _at(cls, path: Path) -> Self:
        try:
            with path.open("rb") as file:
                mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
                document = json.load(file)
            if mode & 0o077:
                raise CliError(
                    f"others may read or write the tokens in {path} (mode {mode:03o})",
                    hint=f"Fix: chmod 600 {path}",
                )
            found = {name: _profile(name, one) for name, one in document["profiles"].items()}
        except FileNotFoundError:
            return cls(path)
        except OSError as error:
            raise CliError(f"cannot read the profiles in {path}: {error.strerror}") from error
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise CliError(
                f"{path} does not hold profiles", hint=f"Remove it and sign in again: rm {path}"
            ) from error
        current = document.get("current")
        return cls(path, found, current if current in found else None)

    def named(self, name: str) -> Profile:
        """The profile of that name. Raises `UsageMistake`, which names those that there are."""
        if (found := self.all.get(name)) is None:
            known = ", ".join(sorted(self.all))
            raise UsageMistake(
                f"there is no profile {name!r}",
                hint=f"There are: {known}." if known else f"Make it: ringfence login URL --profile {name}",
            )
        return found

    def at(self, url: str) -> Profile | None:
        """The profile whose host has that address, first the current one."""
        first = sorted(self.all.values(), key=lambda one: one.name != self.current)
        return next((one for one in first if one.url == url), None)

    def kept(self, profile: Profile, *, keyring: bool) -> Profiles:
        """Keep a profile in place of one of its name, and make it the current one. Raises `CliError`."""
        if keyring:
            _keyring("set_password", profile.name, profile.token)
            profile = replace(profile, token=None)
        kept = profile
        return self._changed(lambda now: ({**now.all, kept.name: kept}, kept.name))

    def used(self, name: str) -> Profiles:
        """Make a profile the current one; `local` makes none so. Raises `CliError`."""
        return self._changed(lambda now: (now.all, None if name == LOCAL else now.named(name).name))

    def without(self, name: str) -> Profiles:
        """Forget a profile and its token. Raises `CliError`."""
        gone = self.named(name)
        if gone.token is None:
            _keyring("delete_password", name)

        def rest(now: Profiles) -> tuple[Mapping[str, Profile], str | None]:
            found = {one: profile for one, profile in now.all.items() if one != name}
            return found, None if name == now.current else now.current

        return self._changed(rest)

    def _changed(self, change: Callable[[Profiles], tuple[Mapping[str, Profile], str | None]]) -> Profiles:
        """Write what becomes of what is kept now: another command may have changed that since it was read."""
        from ringfence.storage.files import write_private

        if self.path is None:
            raise CliError(
                "there is no directory to keep profiles in: this user has no home",
                hint="Set HOME or XDG_CONFIG_HOME, or use RINGFENCE_URL and RINGFENCE_TOKEN_FILE.",
            )
        try:
            self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            with _alone_in(self.path.parent):
                all, current = change(self._at(self.path))
                profiles = {name: _document(one) for name, one in all.items()}
                document = {"current": current, "profiles": profiles}
                write_private(self.path, json.dumps(document, indent=2).encode())
        except OSError as error:
            raise CliError(f"cannot write the profiles to {self.path}: {error.strerror}") from error
        return Profiles(self.path, all, current)


@contextlib.contextmanager
def _alone_in(directory: Path) -> Iterator[None]:
    """Have commands that do the same in this directory wait for each other."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        with contextlib.suppress(OSError):  # a file system of another machine may have no locks
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def config_dir(environ: Mapping[str, str] = os.environ) -> Path | None:
    """Where a user's profiles are (XDG base directories); None for a user without a home."""
    for named, below in ((environ.get("XDG_CONFIG_HOME"), ""), (environ.get("HOME"), ".config")):
        if named and Path(named).is_absolute():
            return Path(named, below, "ringfence")
    return None


def check_name(name: str) -> str:
    """The name, if a profile may be called so. Raises `UsageMistake`."""
    if name == LOCAL or not _NAME.fullmatch(name):
        raise UsageMistake(
            f"{name!r} cannot be the name of a profile"
            + (": it stands for the host on this machine" if name == LOCAL else ""),
            hint="Letters, digits, dots, dashes and underscores can be used, up to 64.",
        )
    return name


def _profile(name: str, document: Mapping[str, Any]) -> Profile:
    files = (document.get("caFile"), document.get("clientCert"), document.get("clientKey"))
    token = document.get("token")
    texts = [one for one in (document["url"], token, *files) if one is not None]
    if not all(isinstance(one, str) for one in texts):
        raise ValueError("not a profile")
    return Profile(name, document["url"], token, TlsFiles(*files))


def _document(profile: Profile) -> dict[str, Any]:
    found = {
        "url": profile.url,
        "token": profile.token,
        "caFile": profile.tls.ca_file,
        "clientCert": profile.tls.client_cert,
        "clientKey": profile.tls.client_key,
    }
    return {name: value for name, value in found.items() if value is not None}


def _keyring(action: str, *arguments: object) -> object:
    try:
        library = importlib.import_module("keyring")
    except ImportError as error:
        raise CliError(
            "the token is to be in the keyring, for which the Python package keyring is missing",
            hint="Install it (pip install keyring), or sign in without --keyring.",
        ) from error
    try:
        return getattr(library, action)(_SERVICE, *arguments)
    except Exception as error:  # each of its backends has errors of its own
        raise CliError(f"the keyring cannot be used: {type(error).__name__}: {error}") from error
