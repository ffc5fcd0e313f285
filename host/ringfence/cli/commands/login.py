"""`ringfence login`, `logout` and `profiles`: the hosts that somebody has signed in to."""

from __future__ import annotations

import getpass
import sys
from typing import Annotated
from urllib.parse import urlsplit

import typer
from rich.text import Text

from ringfence.cli import chosen, output
from ringfence.cli.address import Address, check_url, read_token, sendable
from ringfence.cli.client import ApiError, HostClient
from ringfence.cli.options import PROFILES, AsJson, asks_no_host
from ringfence.cli.profiles import LOCAL, Profile, Profiles, check_name
from ringfence.process.errors import CliError, UsageMistake
from ringfence.process.proxies import is_loopback
from ringfence.process.trust import TlsFiles

TRIED = "/api/host/plugins"
"""What is asked for to see that the token is taken: holders of any rule learn whether they may."""

Named = Annotated[
    str | None,
    typer.Option(
        "--profile",
        metavar="NAME",
        help="The profile's name.",
        autocompletion=PROFILES,
        show_default=False,
    ),
]


@asks_no_host
def login(
    url: Annotated[
        str, typer.Argument(metavar="URL", help="The host's address, such as https://core.example.org.")
    ],
    profile: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="A name for it.",
            autocompletion=PROFILES,
            show_default="the name in the address",
        ),
    ] = None,
    token_file: Annotated[
        str | None,
        typer.Option(
            metavar="FILE", help="File that holds the token.", show_default="asked for, or standard input"
        ),
    ] = None,
    keyring: Annotated[
        bool,
        typer.Option("--keyring", help="Keep the token in the keyring, by the Python package keyring."),
    ] = False,
    ca_file: Annotated[
        str | None,
        typer.Option(
            metavar="FILE", help="Certificates (PEM) to trust beside the system's.", show_default=False
        ),
    ] = None,
    client_cert: Annotated[
        str | None,
        typer.Option(metavar="FILE", help="Certificate (PEM) to show to the host.", show_default=False),
    ] = None,
    client_key: Annotated[
        str | None,
        typer.Option(
            metavar="FILE", help="Its key (PEM), if that file does not hold it.", show_default=False
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Sign in to a host with a token, and keep it: commands talk to that host from then on.

    The token is tried before it is kept, in a file that only you can read. `ringfence token create` makes tokens.
    """
    check_url(url, "URL")
    url = url.rstrip("/")
    before = chosen.now()
    kept = Profiles.read()
    name = _name(kept, url, profile or before.profile)
    tls = (
        TlsFiles(ca_file, client_cert, client_key)
        .over(TlsFiles(before.ca_file, before.client_cert, before.client_key))
        .over(TlsFiles.of_environment())
        .absolute()
    )
    file = token_file or before.token_file
    token = sendable(read_token(file, "--token-file") if file else _asked(url), url)
    if url.startswith("http:") and not is_loopback(url):
        output.note("The token travels unencrypted: use an https address.", style=output.WARN)
    _try(Address(url, token, tls))
    kept.kept(Profile(name, url, token, tls), keyring=keyring)
    if as_json:
        output.print_json({"profile": name, "url": url, "keyring": keyring})
    else:
        output.say(f"Signed in to {output.line(url)} as the profile {name}, which commands use from now on.")


@asks_no_host
def logout(profile: Named = None, as_json: AsJson = False) -> None:
    """Forget a profile and its token; without a name, the one that is in use.

    The token itself stays valid until it expires or `ringfence token revoke` ends it.
    """
    kept = Profiles.read()
    name = profile or chosen.now().profile or kept.current
    if name is None:
        raise CliError("no profile is in use", hint="Name one: ringfence logout --profile NAME")
    url = kept.named(name).url
    kept.without(name)
    if as_json:
        output.print_json({"profile": name, "url": url})
    else:
        output.say(
            f"Signed out of {output.line(url)}. The token stays valid there until `ringfence token revoke` ends it."
        )


@asks_no_host
def profiles(
    use: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help=f"Have commands use this profile from now on; {LOCAL} is the host on this machine.",
            autocompletion=PROFILES,
            show_default=False,
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """List the hosts that you have signed in to, and choose the one that commands use."""
    kept = Profiles.read()
    if use is not None:
        kept = kept.used(use)
    if as_json:
        output.print_json(
            {
                "current": kept.current,
                "profiles": [
                    {"name": one.name, "url": one.url, "keyring": one.token is None}
                    for one in kept.all.values()
                ],
            }
        )
        return
    if not kept.all:
        output.say("No profiles yet: sign in to a host with `ringfence login URL`.")
        return
    output.show_table(
        ("", "name", "address", "token"),
        (
            (
                Text("*" if one.name == kept.current else "", style=output.GOOD),
                one.name,
                output.line(one.url),
                "in the keyring" if one.token is None else "in the file",
            )
            for one in kept.all.values()
        ),
    )
    if kept.current is None:
        output.note("Commands use the host on this machine.")


def _name(kept: Profiles, url: str, wanted: str | None) -> str:
    if wanted is not None:
        return check_name(wanted)
    if (known := kept.at(url)) is not None:
        return known.name
    name = check_name((urlsplit(url).hostname or "").replace(":", "-").strip("-"))
    if name in kept.all:
        raise UsageMistake(
            f"the profile {name} is another host's: {kept.all[name].url}",
            hint="Name this one otherwise with --profile NAME.",
        )
    return name


def _asked(url: str) -> str:
    """The token as it is typed, without being shown, or the first line that is piped in."""
    if sys.stdin.isatty():
        token = ""
        while not token:
            token = getpass.getpass(f"Token for {output.line(url)}: ").strip()
        return token
    token = sys.stdin.buffer.readline().decode(errors="replace").strip()
    if not token:
        raise UsageMistake("no token on standard input", hint="Type it at a terminal, or use --token-file.")
    return token


def _try(address: Address) -> None:
    """Raise `CliError` if there is no host at that address, or it does not take the token."""
    with HostClient(address) as host:
        try:
            host.request("GET", TRIED)
        except ApiError as error:
            if error.status == 403 and error.problem.get("status") == 403:
                return  # it may not see that, and is known
            if error.status == 401:
                raise CliError(
                    f"the host at {address.url} does not accept this token: nothing was kept",
                    hint="Make one there with `ringfence token create NAME --rule RULE`.",
                    problem=error.problem,
                ) from error
            raise
