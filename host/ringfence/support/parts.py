"""What is in a support bundle: each part is asked for by itself, and what cannot be had is told in its place.

No part holds a secret, a script, a parameter, a token or a payload: each takes of what it is told only fields that are
named here.
"""

from __future__ import annotations

import datetime as dt
import importlib.metadata
import io
import json
import os
import platform
import signal
import sys
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ringfence.cli.client import HostClient
from ringfence.cli.log_sources import history, source
from ringfence.process import kept_logs
from ringfence.process.stacks import STACKS
from ringfence.process.variables import ENTRY_POINTS, OPTIONAL_ENTRY_POINTS
from ringfence.redaction import redacted
from ringfence.storage.datadir import DataDir
from ringfence.support.lines import shown

LOG_LINES = 2000
STACKS_SECONDS = 5.0
EVENT_KINDS = 200


@dataclass(frozen=True, slots=True)
class Part:
    """One file of the bundle: what it is called, what is in it, and how it is had. `had` raises what goes wrong."""

    name: str
    what: str
    had: Callable[[], str]


def about() -> str:
    """Versions of what takes part."""
    names = sorted(
        {
            one.dist.name
            for group in (ENTRY_POINTS, OPTIONAL_ENTRY_POINTS)
            for one in _entries(group)
            if one.dist
        }
    )
    return _json(
        {
            "madeAt": dt.datetime.now(dt.UTC).isoformat(),
            "ringfence": importlib.metadata.version("ringfence"),
            "python": sys.version,
            "platform": platform.platform(),
            "uid": os.geteuid(),
            "distributions": {name: importlib.metadata.version(name) for name in names},
            "libraries": {
                name: _version(name) for name in ("sqlalchemy", "psycopg", "fastapi", "uvicorn", "pydantic")
            },
        }
    )


def settings(documents: Sequence[Mapping[str, Any]]) -> str:
    """Settings, as `ringfence settings` lists them: secret ones and passwords are hidden there."""
    kept = ("name", "value", "source", "owner", "problem")
    return _json([{name: one[name] for name in kept} for one in documents])


def doctor() -> str:
    """What this machine can enforce."""
    from ringfence.sandbox.capabilities.document import findings
    from ringfence.sandbox.capabilities.probe import probe

    return _json(findings(probe()))


def status() -> str:
    """Whether all is well; of what needs attention, the kinds and their numbers, and no words."""
    with HostClient.connect() as host:
        told = host.request("GET", "/api/host/status")
    attention: dict[str, int] = {}
    for one in told.pop("attention", ()):
        attention[str(one["kind"])] = attention.get(str(one["kind"]), 0) + 1
    kept = (
        "ok",
        "instance",
        "version",
        "ready",
        "draining",
        "database",
        "eventsBehind",
        "plugins",
        "leftOut",
    )
    more = {name: told.get(name) for name in (*kept, "silent", "counts", "hidden")}
    return _json({**more, "attention": attention})


def plugins() -> str:
    """The plugins of the host: how far each has come, and why one is left out."""
    with HostClient.connect() as host:
        told = host.request("GET", "/api/host/plugins")["plugins"]
    return _json([{name: one.get(name) for name in ("id", "version", "phase", "error")} for one in told])


def metrics() -> str:
    """The metrics of the host."""
    told = io.BytesIO()
    with HostClient.connect() as host:
        host.download("/metrics", told)
    return told.getvalue().decode()


def logs(data_dir: Path, *, whole: bool) -> str:
    """The last lines of the logs that are kept here; with `whole`, as they are kept."""
    sources = [source(one, None) for one in kept_logs.found(data_dir)]
    if not sources:
        raise LookupError("no log is kept in the data directory")
    newest = deque(history(sources), LOG_LINES)
    lines = ({"program": one.program, **(one.fields if whole else shown(one.fields))} for one in newest)
    return "".join(json.dumps(one, default=str) + "\n" for one in lines)


def database(read: Callable[[], Mapping[str, Any]]) -> str:
    """How the database is: revisions, sizes of tables, kinds of events and their numbers."""
    return _json(read())


def stacks(data_dir: Path) -> str:
    """Where each thread of the running host is at this moment: names of functions, and no values."""
    path = data_dir / kept_logs.DIRECTORY / STACKS
    note = DataDir(data_dir).read_instance_note()
    if "pid" not in note or not path.exists():
        raise LookupError("no host runs in the data directory")
    before = path.stat()
    os.kill(int(note["pid"]), signal.SIGUSR2)
    deadline = time.monotonic() + STACKS_SECONDS
    while path.stat().st_size == before.st_size:
        if time.monotonic() > deadline:
            raise LookupError("the host did not answer in time")
        time.sleep(0.05)
    time.sleep(0.2)
    return path.read_bytes()[before.st_size :].decode(errors="replace")


def wrong(error: Exception) -> str:
    """Why a part could not be had."""
    return f"{type(error).__name__}: {redacted(str(error))}"


def _entries(group: str) -> Sequence[importlib.metadata.EntryPoint]:
    return tuple(importlib.metadata.entry_points(group=group))


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _json(document: object) -> str:
    return json.dumps(document, indent=2, default=str) + "\n"
