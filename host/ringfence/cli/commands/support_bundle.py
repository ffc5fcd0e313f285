"""`ringfence support-bundle`: what whoever helps needs to know of an installation, and nothing else."""

from __future__ import annotations

import datetime as dt
import io
import os
import tarfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ringfence.cli import output
from ringfence.cli.commands import on_database
from ringfence.cli.commands.on_database import DataDirOption
from ringfence.cli.options import AsJson
from ringfence.cli.sized import size_of
from ringfence.process import logs
from ringfence.process.errors import CliError
from ringfence.process.signals import as_interrupts

if TYPE_CHECKING:
    from ringfence.settings import HostSettings
    from ringfence.support.parts import Part


def support_bundle(
    file: Annotated[
        Path | None,
        typer.Argument(
            metavar="[FILE|DIR]", help="The file to write.", show_default="named after the time, here"
        ),
    ] = None,
    whole_logs: Annotated[
        bool,
        typer.Option(
            "--whole-logs",
            help="Lines of logs as they are kept: what errors say may quote what people have written.",
        ),
    ] = False,
    with_stacks: Annotated[
        bool, typer.Option("--stacks", help="Where each thread of the running host is at this moment.")
    ] = False,
    data_dir: DataDirOption = None,
    as_json: AsJson = False,
) -> None:
    """Write into one file what whoever helps needs to know: versions, settings, doctor, status, metrics and logs.

    It holds no secret, script, parameter, token or payload. Without a host, it says what could not be had.
    """
    del data_dir
    logs.configure(default="error")
    with on_database.told(), as_interrupts():
        from ringfence.storage.files import new_file

        settings = on_database.settings()
        path = _named(file)
        parts = _parts(settings, whole_logs=whole_logs, with_stacks=with_stacks)
        if not as_json:
            output.note("The bundle will hold:")
            for part in parts:
                output.note(f"  {part.name:<16} {part.what}")
        held = list(_held(parts, settings))
        try:
            with new_file(path) as opened:
                _write(opened, path.name.removesuffix(".tar.gz"), {name: text for name, text, _ in held})
        except FileExistsError as error:
            raise CliError(f"{path} is there already", hint="Name a file that is not there.") from error
    lacking = {name: why for name, _, why in held if why is not None}
    if as_json:
        files = {name: len(text.encode()) for name, text, _ in held}
        output.print_json(
            {"file": str(path), "bytes": path.stat().st_size, "files": files, "missing": lacking}
        )
        return
    for name, text, why in held:
        if why is None:
            output.say(f"  {name:<16} {size_of(len(text.encode()))}")
        else:
            output.say(f"  {name:<16} could not be had: {output.line(why)}", style=output.WARN)
    output.say(
        f"{output.line(path)}: {size_of(path.stat().st_size)}. Look into it before you give it away.",
        style=output.GOOD,
    )


def _named(file: Path | None) -> Path:
    name = f"ringfence-support-{dt.datetime.now(dt.UTC):%Y%m%dT%H%M%SZ}.tar.gz"
    if file is None or file.is_dir():
        return (file or Path()) / name
    return file


def _parts(settings: HostSettings, *, whole_logs: bool, with_stacks: bool) -> list[Part]:
    from ringfence.support import database, parts
    from ringfence.support.parts import Part

    directory = settings.data_dir
    found = [
        Part("about.json", "versions of Ringfence, Python, plugins and libraries", parts.about),
        Part("settings.json", "settings, without secrets and passwords", lambda: parts.settings(_settings())),
        Part("doctor.json", "what this machine can enforce", parts.doctor),
        Part("status.json", "whether all is well with the host", parts.status),
        Part("plugins.json", "which plugins run, and why one does not", parts.plugins),
        Part("metrics.txt", "the host's numbers", parts.metrics),
        Part(
            "database.json",
            "revisions, sizes, kinds and numbers of events and jobs",
            lambda: parts.database(lambda: database.read(settings)),
        ),
        Part(
            "log.jsonl",
            "the last lines of the logs, as they are kept"
            if whole_logs
            else "the last lines of the logs, without what anybody has written",
            lambda: parts.logs(directory, whole=whole_logs),
        ),
    ]
    if with_stacks:
        found.append(Part("stacks.txt", "where each thread of the host is", lambda: parts.stacks(directory)))
    return found


def _held(parts: Sequence[Part], settings: HostSettings) -> Iterator[tuple[str, str, str | None]]:
    """The name of each part, what is in it, and why it could not be had, without the secrets that are known here."""
    from ringfence.scripts.masking.mask import Mask
    from ringfence.support.known import secrets_of
    from ringfence.support.parts import wrong

    secret = [str(one["name"]) for one in _settings() if one["secret"]]
    mask = Mask(secrets_of(os.environ, secret, settings.data_dir))
    for part in parts:
        try:
            text, why = part.had(), None
        except Exception as error:  # each part for itself: what is wrong is why the bundle is made
            text, why = "", mask.text(wrong(error))
            text = f"could not be had: {why}\n"
        yield part.name, mask.text(text), why


def _settings() -> list[Mapping[str, Any]]:
    from ringfence.cli.commands.settings import documents

    return documents()


def _write(opened: Any, folder: str, files: Mapping[str, str]) -> None:
    now = int(dt.datetime.now(dt.UTC).timestamp())
    with tarfile.open(fileobj=opened, mode="w:gz", format=tarfile.PAX_FORMAT) as tar:
        for name, text in files.items():
            content = text.encode(errors="backslashreplace")
            info = tarfile.TarInfo(f"{folder}/{name}")
            info.size, info.mode, info.mtime = len(content), 0o600, now
            tar.addfile(info, io.BytesIO(content))
