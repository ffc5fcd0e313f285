"""One instance as `ringfence up` runs it: the host, what plugins run beside it, and what is said about them."""

from __future__ import annotations

import contextlib
import gc
import os
import shlex
from collections.abc import Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

from rich.text import Text

from ringfence.cli import output, process_end
from ringfence.cli.address import Address
from ringfence.cli.client import HostClient
from ringfence.cli.command_tree import plugged
from ringfence.cli.extension_points import Line, Serving
from ringfence.host import Host, serve
from ringfence.plugins.registry import PluginError
from ringfence.process import kept_logs, stacks
from ringfence.process.errors import CliError, UsageMistake
from ringfence.process.runner import check_runner
from ringfence.process.service_manager import ServiceManager
from ringfence.process.signals import until_stopped
from ringfence.settings import HostSettings, SettingsError, build
from ringfence.storage.datadir import DataDir, DataDirError, default_data_dir
from ringfence.storage.embedded import EmbeddedPostgresError
from ringfence.storage.errors import DatabaseError
from ringfence.tracing.exporting import exported
from ringfence.web.server import ListenError


def serve_until_stopped(settings: HostSettings, *, with_satellite: bool) -> None:
    """Run an instance until Ctrl-C or SIGTERM, and stop everything that it started.

    At the first SIGTERM it drains before it stops, as when it is asked to by `ringfence drain`.

    Raises:
        CliError: if it cannot start; whatever had been started is stopped again.
    """
    check_runner()
    _keep_log(DataDir(settings.data_dir))
    serving = _Serving()
    process_end.run(
        until_stopped(_serve(settings, with_satellite, serving), service=True, gently=serving.stop_gently)
    )
    output.note("Stopped.")


def read_settings(**given: Any) -> HostSettings:
    """The environment's settings, with those that are given and not None over them.

    Raises:
        UsageMistake: naming each that is wrong.
    """
    try:
        if given.get("data_dir") is None and not os.environ.get("RINGFENCE_DATA_DIR"):
            given["data_dir"] = default_data_dir()
        return build(HostSettings, **{name: value for name, value in given.items() if value is not None})
    except (DataDirError, SettingsError) as error:
        raise UsageMistake(str(error)) from error


def _keep_log(data_dir: DataDir) -> None:
    """Keep the log in the data directory, unless another instance has that: the start says so itself then."""
    with contextlib.suppress(DataDirError, OSError), data_dir.locked():
        kept_logs.keep(data_dir.path, "host")
        stacks.told_when_asked(data_dir.path)


class _Serving:
    """The instance, once it serves."""

    host: Host | None = None

    def stop_gently(self) -> bool:
        """Have it drain, and end by itself; False if there is none yet."""
        if self.host is not None:
            self.host.runtime.drain.ask()
        return self.host is not None


async def _serve(settings: HostSettings, with_satellite: bool, serving: _Serving) -> None:
    manager = ServiceManager()
    data_dir = DataDir(settings.data_dir)
    output.note(f"Starting in {settings.data_dir} …", style=output.DIM)
    if settings.database_url is None and not (data_dir.postgres_path / "PG_VERSION").exists():
        output.note("Making a new database; the first start takes a few seconds …", style=output.DIM)
    async with AsyncExitStack() as stack:
        stack.enter_context(exported("ringfence-host"))
        try:
            host, url = await stack.enter_async_context(serve(settings))
            lines = await _beside(stack, url, data_dir) if with_satellite else ()
        except ListenError as error:
            raise _why_taken(error, data_dir) from error
        except (DataDirError, DatabaseError, EmbeddedPostgresError, PluginError) as error:
            raise CliError(str(error)) from error
        except SettingsError as error:
            raise UsageMistake(str(error)) from error
        except OSError as error:
            raise CliError(f"cannot start in {settings.data_dir}: {error}") from error
        _announce(url, data_dir, lines)
        serving.host = host
        _settle()
        async with manager.told_of_life(f"Serving at {url}"):
            await host.runtime.drain.over()


def _settle() -> None:
    """Keep what has been loaded out of every later search for garbage.

    It is some 200,000 objects that stay for as long as the process does. To look through them takes tens of
    milliseconds, for which every request and every change of the policy would wait now and then.
    """
    gc.collect()
    gc.freeze()


def _why_taken(error: OSError, data_dir: DataDir) -> CliError:
    """A taken port, told as what it most often is: another `up` on the same data directory."""
    if data_dir.path.is_dir():
        try:
            with data_dir.locked():
                pass
        except (DataDirError, OSError) as held:
            return CliError(str(held))
    return CliError(str(error))


async def _beside(stack: AsyncExitStack, url: str, data_dir: DataDir) -> list[Line]:
    """Start what plugins run beside an instance, until the stack is left; what is said about it."""
    token = data_dir.admin_token_path.read_text().strip()
    host = stack.enter_context(HostClient(Address(url, token)))
    instance = Serving(url, host, data_dir, _prefix(data_dir))
    lines: list[Line] = []
    for beside in plugged().hook.beside_up(instance=instance):
        lines += await stack.enter_async_context(beside)
    return lines


def _announce(url: str, data_dir: DataDir, lines: Sequence[Line]) -> None:
    output.say("")
    output.say(f"Ringfence is running at {url}", style=f"{output.STRONG} {output.GOOD}")
    output.say(f"  pages      {_prefix(data_dir)}ringfence open  (in a browser, signed in by itself)")
    output.say(f"  sign in    from elsewhere, with the token in {data_dir.admin_token_path}")
    output.say(
        f"  from here  {_prefix(data_dir)}ringfence policy show  (finds the address and the token by itself)"
    )
    for word, sentence in lines:
        text = sentence if isinstance(sentence, Text) else Text(sentence)
        output.console().print(Text(f"  {word:<9}  ").append_text(text), soft_wrap=True)
    output.say("  stop       Ctrl-C")
    output.say("")


def _prefix(data_dir: DataDir) -> str:
    """What to type before a command so that it finds this instance."""
    is_default = data_dir.path == _found_by_itself()
    return "" if is_default else f"RINGFENCE_DATA_DIR={shlex.quote(str(data_dir.path))} "


def _found_by_itself() -> Path | None:
    """The data directory that a command finds without being told; None where there can be none."""
    with contextlib.suppress(DataDirError):
        named = os.environ.get("RINGFENCE_DATA_DIR")
        return (Path(named) if named else default_data_dir()).expanduser().absolute()
    return None
