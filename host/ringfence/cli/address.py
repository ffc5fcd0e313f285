"""Which host a command talks to, and as whom.

First counts what options say (`--url`, `--profile`, `--data-dir`), then the environment or the settings file
(`RINGFENCE_URL`, `RINGFENCE_PROFILE`, `RINGFENCE_DATA_DIR`), then the profile that was signed in to last. Where nothing
is said, it is the host on this machine.

Threat: a token that is sent to an address which it is not for. Mechanism: the admin token of this machine's data
directory is sent only to the address that the host in that directory noted there, a profile's token only to that
profile's address, and the environment's token not to another address than the environment's, if it names one.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from ringfence.cli import chosen
from ringfence.cli.profiles import LOCAL, Profile, Profiles
from ringfence.process.errors import CliError, UsageMistake
from ringfence.process.trust import TlsFiles

_SENDABLE = re.compile(r"[\x21-\x7e]+")
"""What a header can carry as one word (RFC 9110, 5.5). Anything else the HTTP library would refuse, and show."""


class NoHost(CliError):
    """No host can be asked: none is known, none answers, or there is no token for it."""


@dataclass(frozen=True, slots=True)
class Address:
    """Where a host is, the token to use there, and the TLS to reach it by."""

    url: str
    token: str
    tls: TlsFiles | None = None
    """None: as the environment says."""
    said_by: str = "the token"
    """What the token was said by."""


@dataclass(frozen=True, slots=True)
class Named:
    """A host that was said, and by what; as a profile, if it is one."""

    url: str | None
    source: str
    profile: Profile | None = None


def find_address(environ: Mapping[str, str] | None = None, given: chosen.Chosen | None = None) -> Address:
    """The host to talk to, with the token and the TLS to use there.

    Raises:
        NoHost: if nothing names one, or there is no token to use with it.
        CliError: if what names it cannot be used.
    """
    environ = os.environ if environ is None else environ
    given = chosen.now() if given is None else given
    directory = local_data_dir(environ)
    noted = _noted_url(directory) if directory is not None else None
    profiles = Profiles.read(environ)
    named = named_host(environ, given, profiles, noted)
    if not named.url:
        raise NoHost(
            "no running host is known: RINGFENCE_URL is not set, and no host runs in "
            f"{directory or 'a home directory'}",
            hint="Start one with `ringfence up`, sign in to one with `ringfence login URL`, or set RINGFENCE_URL and "
            "RINGFENCE_TOKEN.",
        )
    check_url(named.url, named.source)
    url = named.url.rstrip("/")
    profile = named.profile or profiles.at(url)
    token, said_by = _token(url, named, environ, given)
    if not token and profile is not None:
        token, said_by = profile.secret(), f"the token of the profile {profile.name}"
    if not token and directory is not None and noted and url == noted.rstrip("/"):
        token, said_by = _admin_token(directory), "this machine's admin token"
    if not token:
        raise NoHost(
            f"no token to use at {url}",
            hint="Sign in with `ringfence login`, or set RINGFENCE_TOKEN to a token that was made there with "
            "`ringfence token create`.",
        )
    tls = TlsFiles(given.ca_file, given.client_cert, given.client_key)
    token = sendable(token, url, said_by)
    if named.profile is not None:
        tls = tls.over(named.profile.tls).over(TlsFiles.of_environment(environ))
        return Address(url, token, tls, said_by)
    tls = tls.over(TlsFiles.of_environment(environ))
    return Address(url, token, tls if profile is None else tls.over(profile.tls), said_by)


def named_host(
    environ: Mapping[str, str], given: chosen.Chosen, profiles: Profiles, noted: str | None
) -> Named:
    """The host that is named by what is said nearest. Raises `UsageMistake`."""

    def local(source: str) -> Named:
        return Named(noted, source)

    def profile(name: str, source: str) -> Named:
        if name == LOCAL:
            return local(source)
        found = profiles.named(name)
        return Named(found.url, source, found)

    if given.url is not None and given.profile is not None:
        raise UsageMistake("--url and --profile both name a host: give one of them")
    if given.url is not None:
        return Named(given.url, "--url")
    if given.profile is not None:
        return profile(given.profile, "--profile")
    if given.data_dir is not None:
        return local("--data-dir")
    if environ.get("RINGFENCE_URL"):
        return Named(environ["RINGFENCE_URL"], "RINGFENCE_URL")
    if environ.get("RINGFENCE_PROFILE"):
        return profile(environ["RINGFENCE_PROFILE"], "RINGFENCE_PROFILE")
    if any(environ.get(name) for name in ("RINGFENCE_TOKEN", "RINGFENCE_TOKEN_FILE", "RINGFENCE_DATA_DIR")):
        return local("the host on this machine")
    if profiles.current is not None:
        return profile(profiles.current, "the profile signed in to last")
    return local("the host on this machine")


def check_url(url: str, source: str) -> None:
    """Raise `UsageMistake` if that is no address of a host; `source` is what said it."""
    try:
        parts = urlsplit(url)
        usable = parts.scheme in {"http", "https"} and parts.hostname and parts.port != 0
    except ValueError:  # a port that is no number, or half of an IPv6 address
        usable = False
    if not usable:
        raise UsageMistake(f"{source} must be an http or https address, not {url!r}")
    if parts.username is not None or parts.query or parts.fragment:
        raise UsageMistake(
            f"{source} must not hold a user, a query or a fragment: put the token into RINGFENCE_TOKEN"
        )


def sendable(token: str, url: str, source: str = "the token") -> str:
    """The token, which `source` says, if a request can carry it. Raises `UsageMistake`, which does not show it."""
    if not _SENDABLE.fullmatch(token):
        raise UsageMistake(
            f"the token for {url} is not valid: it holds spaces, line breaks or letters beyond ASCII",
            hint=f"Check {source}.",
        )
    return token


def read_token(file: str, source: str) -> str:
    """The token in a file. Raises `UsageMistake`."""
    try:
        token = Path(file).expanduser().read_text(encoding="utf-8").strip()
    except (OSError, ValueError, RuntimeError) as error:
        reason = getattr(error, "strerror", None) or "it is not text"
        raise UsageMistake(f"cannot read the token in {file} ({source}): {reason}") from error
    if not token:
        raise UsageMistake(f"the token file {file} ({source}) is empty")
    return token


def _token(
    url: str, named: Named, environ: Mapping[str, str], given: chosen.Chosen
) -> tuple[str | None, str]:
    """The token that is said for that address, and by what; None if its profile or this machine's host has it."""
    if given.token_file is not None:
        return read_token(given.token_file, "--token-file"), "--token-file"
    theirs = environ.get("RINGFENCE_URL", "").rstrip("/")
    if named.profile is not None or (theirs and theirs != url):
        return None, ""
    if token := environ.get("RINGFENCE_TOKEN", "").strip():
        return token, "RINGFENCE_TOKEN"
    file = environ.get("RINGFENCE_TOKEN_FILE")
    return (read_token(file, "RINGFENCE_TOKEN_FILE") if file else None), "RINGFENCE_TOKEN_FILE"


def local_data_dir(environ: Mapping[str, str] = os.environ) -> Path | None:
    """Where a host on this machine would leave its note; None for a user without a home."""
    if named := environ.get("RINGFENCE_DATA_DIR"):
        return Path(named).expanduser()
    from ringfence.storage.datadir import DataDirError, default_data_dir

    try:
        return default_data_dir()
    except DataDirError:
        return None


def noted_url(environ: Mapping[str, str] = os.environ) -> str | None:
    """Where the host on this machine is, as it has noted; None if it has not."""
    directory = local_data_dir(environ)
    return None if directory is None else _noted_url(directory)


def _noted_url(data_dir: Path) -> str | None:
    from ringfence.storage.datadir import DataDir

    return DataDir(data_dir).read_instance_note().get("url")


def _admin_token(data_dir: Path) -> str | None:
    from ringfence.storage.datadir import DataDir

    path = DataDir(data_dir).admin_token_path
    try:
        return path.read_text().strip() or None
    except FileNotFoundError:
        return None
    except OSError as error:
        raise NoHost(
            f"the admin token {path} cannot be read: {error.strerror}",
            hint="It belongs to the user that runs the host; set RINGFENCE_TOKEN to a token of your own.",
        ) from error
