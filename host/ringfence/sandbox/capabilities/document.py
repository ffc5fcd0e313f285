"""A host's capabilities as JSON: what satellites tell their host, and `ringfence doctor --json` prints.

Readers of any age know every primitive as `available`, `detail`, `path` and `roots`, or by the `reason` that it is
missing. What `path` and `roots` are of each primitive is said here and nowhere else.
"""

from __future__ import annotations

from typing import Any

from ringfence.sandbox.capabilities.advice import advice
from ringfence.sandbox.capabilities.found import (
    HOSTS_TUN,
    Cgroup,
    Found,
    InstalledWrapper,
    MacvlanAddresses,
    Missing,
    Node,
    PacketFilter,
    PastaProgram,
    Python,
    Shell,
    SlirpProgram,
    TunDevice,
    Uids,
)
from ringfence.sandbox.capabilities.model import Capabilities, SystemLayout, describe
from ringfence.sandbox.egress import HostNetwork


def to_wire(capabilities: Capabilities) -> dict[str, Any]:
    """The capabilities as JSON, in wire names."""
    return {
        "system": capabilities.system,
        "machine": capabilities.machine,
        "kernel": capabilities.kernel,
        "supervisorUid": capabilities.supervisor_uid,
        "supervisorGid": capabilities.supervisor_gid,
        "wrapperKind": capabilities.wrapper_kind.value,
        **{name: _primitive(each) for name, each in capabilities.primitives()},
        "layout": _layout(capabilities.layout),
        "hostNetwork": _host_network(capabilities.host_network),
        "corePattern": capabilities.core_pattern,
    }


def findings(capabilities: Capabilities) -> dict[str, Any]:
    """The capabilities with a summary, and what to do about what is missing: what `ringfence doctor --json` prints."""
    return {
        "summary": describe(capabilities),
        "capabilities": to_wire(capabilities),
        "advice": [one.model_dump(mode="json", by_alias=True) for one in advice(capabilities)],
    }


def _primitive(primitive: Found | Missing) -> dict[str, Any]:
    if isinstance(primitive, Missing):
        return {
            "available": False,
            "reason": primitive.reason,
            "tried": primitive.tried,
            "passing": primitive.passing,
        }
    return {
        "available": True,
        "detail": primitive.detail,
        "path": _path(primitive),
        "roots": list(_roots(primitive)),
    }


def _path(found: Found) -> str | None:
    match found:
        case InstalledWrapper(program=program):
            return program.path
        case (
            PacketFilter(path)
            | SlirpProgram(path)
            | PastaProgram(path)
            | Shell(path)
            | Python(path)
            | Node(path)
        ):
            return path
        case Uids(uids):
            return str(uids)
        case Cgroup(place):
            return str(place.subtree)
        case TunDevice(own_node=False):
            return HOSTS_TUN
        case MacvlanAddresses(setting):
            return setting
        case _:
            return None


def _roots(found: Found) -> tuple[str, ...]:
    match found:
        case InstalledWrapper(program=program):
            return program.libraries
        case Cgroup(place):
            return place.mounts
        case Python(roots=roots) | Node(roots=roots):
            return roots
        case _:
            return ()


def _layout(layout: SystemLayout) -> dict[str, Any]:
    return {
        "links": [list(link) for link in layout.links],
        "directories": list(layout.directories),
        "etc": list(layout.etc),
    }


def _host_network(network: HostNetwork) -> dict[str, Any]:
    return {
        "resolvers": [str(resolver) for resolver in network.resolvers],
        "hasIpv6": network.has_ipv6,
        "speaksIpv6": network.speaks_ipv6,
        "listsPairs": network.lists_pairs,
        "read": network.read,
    }
