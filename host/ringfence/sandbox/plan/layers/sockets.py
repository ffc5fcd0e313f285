"""The Unix sockets of the host that a run gets, by the `unix:` entries of its policy, and why it does not.

Threat: with one socket of the host, a run gets at others. Mechanism: a room has none of the host's files but those that
are named, and each socket is mounted by itself; what is shown of the host beside that and could hold sockets is refused
together with it. (A mount that is read-only is no obstacle to connecting.) Not covered: what the service behind the
socket does for the script, or hands to it.
"""

from __future__ import annotations

from ringfence.sandbox.capabilities.host_sockets import HostSocket, SocketsFound
from ringfence.sandbox.capabilities.host_view import HostFound
from ringfence.sandbox.capabilities.model import Capabilities
from ringfence.sandbox.plan.findings import Findings
from ringfence.sandbox.plan.wrapping import why_not_wrapped
from ringfence.sandbox.policy import SandboxPolicy
from ringfence.sandbox.report import Layer

MOST_NAMED = 5
"""So many sockets are named in a report; of more, only how many there are."""


def sockets(
    capabilities: Capabilities,
    policy: SandboxPolicy,
    found: SocketsFound | None,
    shown: HostFound | None,
    findings: Findings,
    *,
    wrapped: bool,
) -> tuple[HostSocket, ...]:
    """The sockets that a run gets; `shown` is what it is shown of the host's files."""
    if not policy.enabled or not policy.network.sockets:
        return ()
    if not wrapped:
        findings.lacks(
            Layer.NETWORK,
            "the unix: entries of network.allow need namespaces, so that no other socket of the host is there "
            f"({why_not_wrapped(capabilities)})",
        )
        return ()
    if shown is not None and _may_hold_sockets(shown):
        findings.lacks(
            Layer.NETWORK,
            "a run cannot have unix: entries of network.allow and be shown directories of the host: it could connect "
            "to every socket in these; name single files in filesystem.hostPaths, or have two scripts do it",
        )
        return ()
    found = found or SocketsFound()
    for reason in found.lacking:
        findings.lacks(Layer.NETWORK, f"network.allow: {reason}")
    for text in _first(found.absent):
        findings.note(Layer.NETWORK, text)
    if found.sockets:
        findings.mechanisms["sockets"] = (
            f"mounted each by itself: {', '.join(_first([each.at for each in found.sockets]))}"
        )
        findings.note(
            Layer.NETWORK,
            "over Unix sockets of the host, the script is known by the uid that it has outside (SO_PEERCRED), and what "
            "passes is not counted",
        )
    return found.sockets


def _may_hold_sockets(shown: HostFound) -> bool:
    return any(place.is_directory for place in (*shown.paths, *shown.witnesses))


def _first(texts: tuple[str, ...] | list[str]) -> list[str]:
    more = len(texts) - MOST_NAMED
    return [*texts[:MOST_NAMED], *([f"and {more} more"] if more > 0 else [])]
