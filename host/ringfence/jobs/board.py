"""What the plugins of this process have to do with jobs: the kinds that they declare, their handlers and timetables."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel

from ringfence.jobs.job import Job, JobError, JobHandler, RunningJob
from ringfence.jobs.schedule import parse

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncSession


def kind_of(plugin: str, name: str) -> str:
    """What a plugin's job is called in the database."""
    return f"{plugin}.{name}"


@dataclass(frozen=True, slots=True, eq=False)
class JobService:
    """Who does the jobs of one kind in this process: what is called for each attempt."""

    plugin: str
    job: Job[Any]
    handler: JobHandler[Any]

    def __post_init__(self) -> None:
        wanted = f"async def {getattr(self.handler, '__name__', 'handler')}(job, session)"
        if not callable(self.handler):
            raise JobError(f"{self.plugin} does {self.job.name} with {self.handler!r}: write {wanted}")
        try:
            inspect.signature(self.handler).bind("job", "session")
        except ValueError:
            return  # some built-in callables do not tell
        except TypeError as error:
            raise JobError(
                f"{self.plugin} does {self.job.name} with {self.name}, which would be called with (job, session): "
                f"write {wanted}"
            ) from error

    async def __call__(self, running: RunningJob[Any], session: AsyncSession) -> None:
        result = self.handler(running, session)
        if not inspect.isawaitable(result):
            raise JobError(
                f"{self.name} returned {type(result).__name__}, which cannot be awaited: write it as `async def`"
            )
        await result

    @property
    def kind(self) -> str:
        """What the kind is called in the database."""
        return kind_of(self.plugin, self.job.name)

    @property
    def name(self) -> str:
        """The handler's own name."""
        return str(getattr(self.handler, "__qualname__", repr(self.handler)))


@dataclass(frozen=True, slots=True)
class Timetable:
    """When a job is enqueued again and again. `schedule` and `zone` are as `ringfence.jobs.schedule.parse` reads them.

    Raises `JobError` for what is none.
    """

    plugin: str
    name: str
    job: Job[Any]
    payload: BaseModel
    schedule: str
    zone: str

    def __post_init__(self) -> None:
        parse(self.schedule, self.zone)

    @property
    def kind(self) -> str:
        """The kind of job, as it is called in the database."""
        return kind_of(self.plugin, self.job.name)


class JobBoard:
    """The kinds of jobs that this process does, and the timetables that its plugins declare."""

    def __init__(self) -> None:
        self._services: dict[str, JobService] = {}
        self._timetables: dict[tuple[str, str], Timetable] = {}

    def serve(self, service: JobService) -> None:
        """Do jobs of a kind from now on. Raises `JobError` when somebody does already."""
        if self._services.setdefault(service.kind, service) is not service:
            raise JobError(f"{service.plugin} already has a handler for the job {service.job.name}")

    def repeat(self, timetable: Timetable) -> None:
        """Have a timetable at the next start. Raises `JobError` when the plugin has one of that name."""
        if self._timetables.setdefault((timetable.plugin, timetable.name), timetable) is not timetable:
            raise JobError(f"{timetable.plugin} already has the timetable {timetable.name}")

    def disconnect_plugin(self, plugin: str) -> None:
        """Drop every handler and timetable of `plugin`."""
        self._services = {kind: one for kind, one in self._services.items() if one.plugin != plugin}
        self._timetables = {key: one for key, one in self._timetables.items() if one.plugin != plugin}

    @property
    def services(self) -> dict[str, JobService]:
        """Who does what, by kind."""
        return dict(self._services)

    def timetables(self, *, plugin: str | None = None) -> Iterator[Timetable]:
        """The timetables that are declared."""
        return (one for one in self._timetables.values() if plugin in {None, one.plugin})
