"""What an instance does when it follows the event log again: its plugins are told, in order."""

from __future__ import annotations

from ringfence.delivery.hook_delivery import HookDelivery
from ringfence.eventlog import EventLogResumed, event_log_resumed
from ringfence.hooks import HookBus, Mode, unstored_event


async def tell_plugins(bus: HookBus, delivery: HookDelivery, what: EventLogResumed) -> None:
    """Have each plugin that listens hear of it after all events that it has yet to hear of those before.

    Threat: a plugin that keeps what events have said, and does not listen to this, would go on trusting it when the
    database was set back. Mechanism: it counts as one that has missed an event, so that its `tail_is_live` does not
    hold until the instance is started again.
    """
    event = unstored_event(event_log_resumed, what, plugin="host")
    told = bus.receivers(event_log_resumed.name, Mode.INSTANCE_LOCAL)
    if what.set_back:
        untold = {one.plugin for one in bus.listeners(mode=Mode.BROADCAST)} - {one.plugin for one in told}
        for plugin in untold:
            delivery.missed.setdefault(plugin, what.resumed_after)
    if told:
        await delivery.lanes.deliver(what.resumed_after, dict.fromkeys(told, event))
