"""A real host with the notifications plugin, whose messages come to servers of the tests' own."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any

import httpx
import pytest
from pydantic import BaseModel
from ringfence import Hook, PluginContext, PluginInfo, Registry, hookimpl
from ringfence.host import Host
from ringfence.testing import PluginFactory, RunHost, client, eventually, installed
from ringfence_notifications.service import Notifications, Route, RouteSource
from sqlalchemy import CursorResult, text

from tests.notifications.receivers import Inbox, http_inbox, smtp_inbox

BASE = "/api/notifications"


class DoorMoved(BaseModel):
    """A door was opened or closed."""

    door: str
    house: str
    severity: str = "error"
    note: str = ""


door_opened = Hook("door-opened", DoorMoved)
door_closed = Hook("door-closed", DoorMoved)
house_sold = Hook("house-sold", DoorMoved)
bell_rang = Hook("bell-rang", DoorMoved, payload_rule="doors.bell.hear")
OPEN_DOORS = Route(
    name="open-doors",
    what="open doors",
    hook="door-opened",
    filter='event.house != "barn"',
    key=("{{ event.house }}", "{{ event.door }}"),
    group="{{ event.house }}",
    title="The {{ event.door }} of {{ event.house }} is open",
    text="{{ event.note }}",
    severity="{{ event.severity }}",
    window_seconds=0.0,
    repeat_seconds=3600.0,
    recoveries=(
        {"hook": "door-closed", "text": "It was closed."},
        {"hook": "house-sold", "key": ("{{ event.house }}", "*"), "text": "The house was sold."},
    ),
)


class DoorsPlugin:
    """Tells of doors, as a third party's plugin would."""

    info = PluginInfo(id="doors", version="1", requires=("notifications",))
    context: PluginContext
    notifications: Notifications

    @hookimpl
    def register(self, registry: Registry) -> None:
        registry.access_rule("bell", "hear", "Hear who rings")
        for hook in (door_opened, door_closed, house_sold, bell_rang):
            registry.hook(hook)

    @hookimpl
    async def init(self, context: PluginContext) -> None:
        self.context = context
        context.services.extend(RouteSource, self)

    @hookimpl
    async def after_plugins_ready(self, context: PluginContext) -> None:
        self.notifications = context.services.get(Notifications)

    async def routes(self) -> tuple[Route, ...]:
        """See `RouteSource`."""
        return (OPEN_DOORS,)

    async def emit(self, hook: Hook[DoorMoved], *moved: DoorMoved) -> None:
        async with self.context.sessions.begin() as session:
            for one in moved:
                await self.context.emit_hook(hook, one, session=session)


@dataclass
class Telling:
    """A running host, an administrator's client, and the plugin that something happens to."""

    host: Host
    api: httpx.AsyncClient
    doors: DoorsPlugin

    async def add(self, name: str, address: str, **settings: Any) -> dict[str, Any]:
        answer = await self.api.put(
            f"{BASE}/channels/{name}", json={"address": address, "settings": settings}
        )
        assert answer.status_code == 200, answer.text
        found: dict[str, Any] = answer.json()
        return found

    async def change_route(self, name: str, **said: Any) -> dict[str, Any]:
        answer = await self.api.put(f"{BASE}/routes/{name}", json={**said, "change": True})
        assert answer.status_code == 200, answer.text
        found: dict[str, Any] = answer.json()
        return found

    async def open(self, door: str, house: str = "home", severity: str = "error", note: str = "") -> None:
        await self.doors.emit(door_opened, DoorMoved(door=door, house=house, severity=severity, note=note))

    async def close(self, door: str, house: str = "home") -> None:
        await self.doors.emit(door_closed, DoorMoved(door=door, house=house))

    async def listed(self, what: str, **params: Any) -> list[dict[str, Any]]:
        answer = await self.api.get(f"{BASE}/{what}", params=params)
        assert answer.status_code == 200, answer.text
        found: list[dict[str, Any]] = answer.json()[what]
        return found

    async def all_sent(self) -> list[dict[str, Any]]:
        """All messages, once none is pending."""

        async def sent() -> list[dict[str, Any]] | None:
            found = await self.listed("messages")
            return found if found and all(one["status"] == "sent" for one in found) else None

        found = await eventually(sent)
        assert found is not None
        return found

    async def time_passes(self, seconds: float) -> None:
        """Have what is due within so many seconds be due now, as if they had passed."""
        shift = f"interval '{seconds} seconds'"
        await self.execute(
            f"UPDATE notifications_tellings SET due_at = due_at - {shift} WHERE due_at IS NOT NULL"
        )
        await self.execute(f"UPDATE jobs SET due_at = due_at - {shift} WHERE status = 'waiting'")
        await self.execute("SELECT pg_notify('ringfence_jobs', '')")

    async def execute(self, statement: str, **values: Any) -> list[Any]:
        async with self.doors.context.sessions.begin() as session:
            answer = await session.execute(text(statement), values)
            return list(answer.all()) if isinstance(answer, CursorResult) and answer.returns_rows else []


StartTelling = Callable[[], Awaitable[Telling]]


@pytest.fixture
def plugins_under_test() -> PluginFactory:
    return lambda: [*installed("notifications"), DoorsPlugin()]


@pytest.fixture
async def start_telling(run_host: RunHost) -> AsyncIterator[StartTelling]:
    """Start an instance on the test's database."""
    async with AsyncExitStack() as stack:

        async def start() -> Telling:
            doors = DoorsPlugin()
            host = await run_host(plugins=[*installed("notifications"), doors])
            return Telling(host, await stack.enter_async_context(client(host)), doors)

        yield start


@pytest.fixture
async def telling(start_telling: StartTelling) -> Telling:
    return await start_telling()


@pytest.fixture
async def mail() -> AsyncIterator[Inbox]:
    async with smtp_inbox() as inbox:
        yield inbox


@pytest.fixture
async def web() -> AsyncIterator[Inbox]:
    async with http_inbox() as inbox:
        yield inbox
