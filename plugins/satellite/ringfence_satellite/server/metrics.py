"""The metrics of the fleet: its satellites, how far the policy is with them, and what goes through the sockets here."""

from __future__ import annotations

from collections.abc import Sequence

from ringfence import PluginContext
from ringfence.metrics import Metric, counter, gauge
from ringfence_script_packages.service import SandboxPolicyService

from ringfence_satellite.server import lists
from ringfence_satellite.server.connections.relay import Relay
from ringfence_satellite.server.lists import Standing


async def of_fleet(context: PluginContext, relay: Relay) -> Sequence[Metric]:
    """What the database says of all satellites, and this instance of those that are connected to it."""
    policy = await context.services.get(SandboxPolicyService).current()
    async with context.sessions() as session:
        standing = await lists.standing(session, policy.revision, reach=None)
    return [*_of_all(standing), *_of_this_instance(relay)]


def _of_all(standing: Standing) -> Sequence[Metric]:
    never = standing.every - standing.online - standing.offline
    return [
        gauge(
            "ringfence_satellites",
            "Satellites of the fleet by whether they are connected; never: they have not been yet",
            {
                ("online",): float(standing.online),
                ("offline",): float(standing.offline),
                ("never",): float(never),
            },
            labels=["state"],
        ),
        gauge(
            "ringfence_policy_satellites",
            "Satellites that are online, by whether they have applied the policy that holds",
            {
                ("applied",): float(standing.online - standing.behind),
                ("behind",): float(standing.behind),
            },
            labels=["state"],
        ),
        gauge(
            "ringfence_satellites_lacking",
            "Satellites that are online and cannot enforce all of the policy",
            standing.lacking,
        ),
        gauge(
            "ringfence_satellites_refused",
            "Satellites in whose name an agent was refused, for its token is not the current one",
            standing.refused,
        ),
    ]


def _of_this_instance(relay: Relay) -> Sequence[Metric]:
    traffic = relay.traffic
    admitted = relay.admitted()
    return [
        gauge(
            "ringfence_satellite_connections", "Satellites that are connected to this instance", len(admitted)
        ),
        gauge(
            "ringfence_satellite_connections_stuck",
            "Connected satellites that do not read what they were sent",
            sum(one.stuck_since is not None for one in admitted),
        ),
        counter(
            "ringfence_satellite_heartbeats_total",
            "Heartbeats of satellites that this instance has heard",
            traffic.received.of("heartbeat"),
        ),
        counter(
            "ringfence_satellite_frames_received_total",
            "Frames that satellites have sent to this instance, by type",
            traffic.received,
            labels=["type"],
        ),
        counter(
            "ringfence_satellite_received_bytes_total",
            "What satellites have sent to this instance, as characters of its text",
            traffic.received_bytes,
        ),
        counter(
            "ringfence_satellite_messages_sent_total",
            "Messages that this instance has sent to satellites",
            traffic.sent_messages,
        ),
        counter(
            "ringfence_satellite_sent_bytes_total",
            "What this instance has sent to satellites, as it is on the wire",
            traffic.sent_bytes,
        ),
        counter(
            "ringfence_satellite_messages_dropped_total",
            "Messages to satellites for which there was no room, and frames of theirs that nobody asked for",
            {("no-room",): 0.0, ("not-asked-for",): 0.0, **dict(traffic.dropped.items())},
            labels=["reason"],
        ),
    ]
