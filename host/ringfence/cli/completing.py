"""Names of a host's things for the shell to complete: quickly, or none, and never with a word of why not.

Threat: a name that somebody else gave a thing holds what a shell takes for a command, and is put on the command line at
the press of a key. Mechanism: only names that a shell takes as they are, without quotes, are offered.
"""

from __future__ import annotations

import contextlib
import shlex
import threading
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeAlias

import typer

MOST_NAMES = 500
SECONDS = 1.0
"""How long a shell waits for a host to say something, whoever presses the key."""
ALTOGETHER_SECONDS = 3.0
"""How long it waits for all that it says, for looking its name up, and for a keyring."""

Complete: TypeAlias = Callable[[typer.Context, str], list[str]]
"""What `autocompletion=` takes."""
Names: TypeAlias = Callable[[Mapping[str, Any]], Iterable[object]]
"""The names in one entry of a list."""


def names_from(
    path: str,
    entries: str,
    named: str | Names = "name",
    *,
    also: Iterable[str] = (),
    all_at_once: bool = False,
) -> Complete:
    """The names in the list at `path`, which answers have by the name `entries`.

    `named` is the field that has the name, or a function of an entry that answers all its names; `also` are names
    besides, which no list has. A list that comes `all_at_once` is not asked for by pages.
    """
    names_of: Names = named if callable(named) else lambda entry: (entry[named],)
    params: dict[str, Any] = {} if all_at_once else {"limit": MOST_NAMES}

    def names(context: typer.Context) -> list[str]:
        return [str(name) for entry in _asked(context, path, params)[entries] for name in names_of(entry)]

    return _completing(names, also)


def names_here(names: Callable[[], Iterable[str]]) -> Complete:
    """Names that this machine knows."""
    return _completing(lambda _: names())


def names_as(*words: str) -> Complete:
    """What the first argument of that command completes to: of a plugin, which alone knows where its names are."""

    def names(context: typer.Context) -> list[str]:
        command: Any = context.find_root().command
        for word in words:
            command = command.commands[word]
        argument = next(one for one in command.params if one.param_type_name == "argument")
        return [item.value for item in argument.shell_complete(context, "")]

    return _completing(names)


def _completing(names: Callable[[typer.Context], Iterable[str]], also: Iterable[str] = ()) -> Complete:
    def complete(ctx: typer.Context, incomplete: str) -> list[str]:
        found = list(also)

        def find() -> None:
            with contextlib.suppress(BaseException):  # a shell that completes has no place for the reason
                found.extend(names(ctx))

        import httpx  # noqa: F401  (it takes long on a busy machine, and no host is to blame for that)

        # A thread, for what has no deadline of its own: looking a name up, a keyring, an answer that comes in drops.
        thread = threading.Thread(target=find, daemon=True)
        thread.start()
        thread.join(ALTOGETHER_SECONDS)
        return [name for name in dict.fromkeys(found) if name.startswith(incomplete) and _is_plain(name)]

    return complete


def _is_plain(name: str) -> bool:
    """Whether a shell takes it as it is."""
    return shlex.quote(name) == name


def _asked(context: typer.Context, path: str, params: Mapping[str, Any]) -> Any:
    from ringfence.cli import chosen
    from ringfence.cli.address import local_data_dir
    from ringfence.cli.client import HostClient
    from ringfence.cli.options import use_data_dir
    from ringfence.process import settings_file

    # No command's callback runs while a shell completes, and so none has looked at these yet.
    root: dict[str, Any] = context.find_root().params
    before = {
        name: root.get(name)
        for name in ("profile", "url", "token_file", "ca_file", "client_cert", "client_key")
    }
    after = chosen.now()
    chosen.forget()
    chosen.choose(**before)
    chosen.choose(url=after.url, profile=after.profile, token_file=after.token_file, data_dir=after.data_dir)
    if after.data_dir is None:
        if root.get("data_dir") is not None:
            use_data_dir(root["data_dir"])
        else:
            settings_file.apply(local_data_dir())
    with HostClient.connect() as host:
        return host.request("GET", path, params=params, timeout=SECONDS)
