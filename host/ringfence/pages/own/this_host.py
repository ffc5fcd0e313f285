"""This instance: what its machine can enforce, how it is, and how it is set."""

from __future__ import annotations

import asyncio
import datetime as dt
import importlib.metadata
import os
import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ringfence.pages.declared import Action, Again, Command, Found, Page, Pages, Redirect, View
from ringfence.plugins.lifecycle import LoadedPlugin
from ringfence.plugins.runtime import Runtime
from ringfence.process import settings_file
from ringfence.redaction import describe
from ringfence.sandbox.capabilities.document import findings
from ringfence.sandbox.capabilities.probe import probe_anew
from ringfence.settings import EVERYWHERE, HostSettings, Setting, of_model
from ringfence.settings.listing import listed, values_of
from ringfence.web.health import readiness
from ringfence.web.host_routes import DRAIN, READ_INSTANCE, ask_to_stop

HERE = "/this-host"
FRESH_SECONDS = 300.0
"""For how long what was found counts; the next who looks has it tried again."""
PATIENCE_SECONDS = 0.5
"""How long a page waits for what is being tested; it is shown by itself once it is there."""


@dataclass(frozen=True, slots=True)
class Tried:
    """What was found of the machine, or why it could not be tried, and when."""

    at: dt.datetime
    found: Mapping[str, Any] | None
    error: str | None = None


class Trials:
    """Tries what this machine can enforce, in a thread, when somebody wants to know and nobody has just tried it."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._last: tuple[float, Tried] | None = None
        self._task: asyncio.Task[None] | None = None

    @property
    def last(self) -> Tried | None:
        """What was found the last time."""
        return None if self._last is None else self._last[1]

    @property
    def under_way(self) -> bool:
        """Whether it is being tested at the moment."""
        return self._task is not None and not self._task.done()

    async def look(self, *, again: bool = False) -> None:
        """Have it tried, if that is due; waits a little for it."""
        now = asyncio.get_running_loop().time()
        due = again or self._last is None or now - self._last[0] >= FRESH_SECONDS
        if due and not self.under_way:
            self._task = self._runtime.tasks.spawn(
                self._try(), plugin="host", name="what this machine can enforce"
            )
        if self._task is not None:
            await asyncio.wait({self._task}, timeout=PATIENCE_SECONDS)

    async def _try(self) -> None:
        try:
            found = findings(await asyncio.to_thread(probe_anew))
            tried = Tried(dt.datetime.now(dt.UTC), found)
        except Exception as error:
            tried = Tried(dt.datetime.now(dt.UTC), None, describe(error))
        self._last = (asyncio.get_running_loop().time(), tried)


class ThisHostPages:
    """The pages."""

    def __init__(self, runtime: Runtime, plugins: Sequence[LoadedPlugin]) -> None:
        self._runtime = runtime
        self._plugins = plugins
        self._trials = Trials(runtime)

    def declared(self) -> Pages:
        """The machine, and the settings."""
        return Pages(
            package="",
            pages=[
                Page(
                    path=HERE,
                    title="What this host can enforce",
                    template="this-host.html",
                    show=self.show,
                    rule=READ_INSTANCE,
                    group="System",
                    order=88,
                ),
                Page(
                    path=f"{HERE}/settings",
                    title="Settings",
                    template="settings.html",
                    show=self.settings,
                    rule=READ_INSTANCE,
                    group="System",
                    order=89,
                ),
            ],
            actions=[
                Action(path=f"{HERE}/again", title="Try again", do=self.again, rule=READ_INSTANCE),
                Action(path=f"{HERE}/stop", title="Stop this instance", do=self.stop, rule=DRAIN),
            ],
            commands=[
                Command(
                    words="Test again what this host can enforce",
                    to=f"{HERE}/again",
                    rule=READ_INSTANCE,
                    form={},
                ),
            ],
            find=self.find,
        )

    async def show(self, view: View) -> Mapping[str, Any]:
        """What was tried, and how this instance is."""
        await self._trials.look()
        tried = self._trials.last
        found = None if tried is None else tried.found
        runtime = self._runtime
        return {
            "instance": str(runtime.instance_id),
            "machine": socket.gethostname(),
            "process": os.getpid(),
            "version": importlib.metadata.version("ringfence"),
            "tried": tried,
            "under_way": self._trials.under_way,
            "summary": None if found is None else found["capabilities"],
            "primitives": [] if found is None else _primitives(found),
            "state_of": await readiness(runtime, self._plugins),
            "hold_ups": list(runtime.hold_ups)[::-1],
            "may_stop": view.may(DRAIN),
            "drain_seconds": runtime.settings.drain_seconds,
        }

    async def again(self, _: View) -> Redirect | Again:
        """Try it now."""
        await self._trials.look(again=True)
        said = "It is being tested." if self._trials.under_way else "The test is done."
        return Redirect(HERE, said)

    async def stop(self, view: View) -> Redirect | Again:
        """Have this instance stop in good order."""
        ask_to_stop(self._runtime, view.principal)
        return Redirect("/", "This instance is stopping.")

    async def settings(self, view: View) -> Mapping[str, Any]:
        """Every setting as this instance has it."""
        words = view.query.get("q", "").strip().lower()[:200]
        shown = [
            document
            for document in self._listed()
            if words in document["name"].lower() or words in document["description"].lower()
        ]
        source = settings_file.source()
        return {
            "settings": shown,
            "words": words,
            "file": None if source is None else str(source),
            "instance": str(self._runtime.instance_id),
        }

    def _listed(self) -> list[dict[str, Any]]:
        used = values_of(self._runtime.settings)
        every: list[Setting] = [*of_model(HostSettings, "host"), *EVERYWHERE]
        for one in self._plugins:
            every += one.settings
            if one.registry.settings is not None:
                used |= values_of(one.registry.settings)
        return [listed(one, used=used) for one in every]

    async def find(self, view: View, words: str) -> Sequence[Found]:
        """Settings by their name."""
        if not view.may(READ_INSTANCE):
            return ()
        names = [one["name"] for one in self._listed() if words.lower() in one["name"].lower()]
        return [Found(name, f"{HERE}/settings?q={name}", "setting") for name in names[:5]]


def _primitives(found: Mapping[str, Any]) -> list[dict[str, Any]]:
    """What the sandbox is made of: what is missing and can be mended, then what is missing, then what is there."""
    advice = {one["primitive"]: one["remedy"] for one in found["advice"]}
    listed = [
        {
            "name": name,
            "available": each["available"],
            "tried": each.get("tried", True),
            "detail": each.get("detail") if each["available"] else each.get("reason"),
            "path": each.get("path"),
            "remedy": advice.get(name),
        }
        for name, each in found["capabilities"].items()
        if isinstance(each, dict) and "available" in each
    ]
    return sorted(listed, key=lambda one: (one["remedy"] is None, one["available"]))
