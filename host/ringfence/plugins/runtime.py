"""What the plugins of one instance share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from uuid import UUID

from ringfence.delivery.hook_delivery import HookDelivery
from ringfence.hooks import HookBus, HookDirectory
from ringfence.jobs import JobBoard, JobQueue, Queue
from ringfence.plugins.blocked_loop import HoldUps, no_hold_ups
from ringfence.plugins.draining import Drain
from ringfence.plugins.ports import Tail, Transactions
from ringfence.plugins.registry import PluginError
from ringfence.plugins.services import ServiceDirectory
from ringfence.settings import HostSettings
from ringfence.storage.set_aside import Aside
from ringfence.tasks import OwnedTasks


@dataclass(slots=True)
class Runtime:
    """What the plugins of one instance share, reached by each only through its own context."""

    settings: HostSettings
    instance_id: UUID
    database: Transactions
    tailer: Tail
    bus: HookBus
    delivery: HookDelivery
    services: ServiceDirectory
    tasks: OwnedTasks
    aside: Aside = field(default_factory=Aside)
    drain: Drain = field(default_factory=Drain)
    hooks: HookDirectory = field(default_factory=HookDirectory)
    board: JobBoard = field(default_factory=JobBoard)
    queue: Queue = field(default_factory=JobQueue)
    hold_ups: HoldUps = field(default_factory=no_hold_ups)
    """Who has held up the event loop."""
    ready: bool = False
    """Every plugin is initialised: they may call one another."""
    following: bool = False
    """Every plugin has subscribed: the event log is followed from here on."""
    when_ready: dict[str, list[Callable[[], None]]] = field(default_factory=dict)
    """What is put off until then, by plugin."""
    withdrawn: set[str] = field(default_factory=set)
    """The plugins that no longer take part: left out, or shut down."""

    def check_takes_part(self, plugin: str, use: str) -> None:
        """Raise `PluginError` when it is too late for `use`: a task of the plugin's own has outlived it."""
        if plugin in self.withdrawn:
            raise PluginError(
                f"{plugin} used {use} after it was left out or shut down: start background work with context.spawn(), "
                "which ends it in time"
            )

    def check_ready(self, plugin: str, use: str) -> None:
        """Raise `PluginError` when it is too early for `use`, or too late."""
        self.check_takes_part(plugin, use)
        if not self.ready:
            raise PluginError(
                f"{plugin} used {use} before every plugin was ready: move it to after_plugins_ready, or later"
            )

    def check_following(self, plugin: str, use: str) -> None:
        """Raise `PluginError` when `use` would wait for what can only happen after `after_plugins_ready`."""
        if not self.following:
            raise PluginError(
                f"{plugin} used {use} before every plugin had subscribed: do it in work that context.spawn() starts, "
                "or in answer to a request"
            )
