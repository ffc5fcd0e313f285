"""A host's capabilities as another machine has told them (see `document`), for plans that are made elsewhere.

Threat: the document comes from a machine of any age, or from somebody who has taken one over, and is shown and planned
with. Mechanism: the reader is total. It raises nothing; what is left out, or is not what this release would have
written, counts as missing, and so a plan refuses what it would need; every text in it is bounded. Not covered: a
machine that lies about what it can do, which harms its own runs alone.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from ipaddress import ip_address
from pathlib import Path
from typing import Any, TypeVar

from ringfence.sandbox.capabilities.found import (
    HOSTS_TUN,
    Cgroup,
    EgressRelay,
    Found,
    FreshProc,
    IdentityDrop,
    InstalledWrapper,
    Landlock,
    MacvlanAddresses,
    Missing,
    NetworkNamespaces,
    Node,
    Overlay,
    PacketFilter,
    PastaProgram,
    Python,
    ResourceLimits,
    Seccomp,
    Shell,
    SlirpProgram,
    TunDevice,
    Uids,
    UserNamespaces,
)
from ringfence.sandbox.capabilities.model import Capabilities, SystemLayout
from ringfence.sandbox.egress import HostNetwork
from ringfence.sandbox.identities.identity import Identity
from ringfence.sandbox.identities.uids import SubordinateRange, UidRange
from ringfence.sandbox.limits.cgroups.place import LegacySubtree, Place
from ringfence.sandbox.policy.addresses import Address
from ringfence.sandbox.wrappers.choice import WrapperKind
from ringfence.sandbox.wrappers.installed import Program

MOST_TEXT = 500
"""The longest text that is taken over, in characters; of a longer reason, its beginning."""
MOST_LISTED = 100
"""The most entries of a list that are taken over."""
NOT_TOLD = "this machine has not told of it"
UNREADABLE = "what this machine has told of it cannot be read here"

Told = Mapping[str, Any]
F = TypeVar("F", bound=Found)


class _UnreadableError(ValueError):
    """A part of the document is not what this release would have written."""


def from_wire(told: object) -> Capabilities:
    """The capabilities that a document tells of; of anything else, a machine without any. Raises nothing."""
    document: Told = told if isinstance(told, dict) else {}
    uid = _number(document.get("supervisorUid"))
    gid = _number(document.get("supervisorGid"))
    own = Identity(0 if uid is None else uid, 0 if gid is None else gid)
    kind = _wrapper_kind(document.get("wrapperKind"))

    def read(name: str, meaning: Callable[[Told], F]) -> F | Missing:
        return _primitive(document.get(name), meaning)

    return Capabilities(
        system=_text(document.get("system")) or "unknown",
        machine=_text(document.get("machine")) or "unknown",
        kernel=_text(document.get("kernel")) or "",
        supervisor_uid=own.uid,
        supervisor_gid=own.gid,
        wrapper_kind=kind or WrapperKind.BUBBLEWRAP,
        wrapper=read("wrapper", lambda each: _wrapper(each, kind)),
        user_namespaces=read("userNamespaces", lambda _: UserNamespaces()),
        network_namespaces=read("networkNamespaces", lambda _: NetworkNamespaces()),
        fresh_proc=read("freshProc", lambda _: FreshProc()),
        overlay=read("overlay", lambda _: Overlay()),
        # Without its uid nobody can say as whom its scripts would run.
        identity_drop=Missing(NOT_TOLD)
        if uid is None
        else read("identityDrop", lambda _: IdentityDrop(own.uid)),
        uids=read("uids", lambda each: _uids(each, own)),
        rlimits=read("rlimits", lambda _: ResourceLimits()),
        seccomp=read("seccomp", lambda _: Seccomp(_text(document.get("machine")) or "unknown")),
        cgroup=read("cgroup", _cgroup),
        landlock=read("landlock", lambda each: Landlock(int(_found(r"Landlock ABI ([0-9]{1,3})", each)[1]))),
        relay=read(
            "relay", lambda each: EgressRelay(pings="ping" not in (_text(each.get("detail")) or "ping"))
        ),
        nft=read("nft", lambda each: PacketFilter(_path(each))),
        tun=read("tun", lambda each: TunDevice(own_node=each.get("path") != HOSTS_TUN)),
        slirp4netns=read("slirp4netns", lambda each: SlirpProgram(_path(each))),
        pasta=read("pasta", lambda each: PastaProgram(_path(each))),
        macvlan=read("macvlan", _macvlan),
        shell=read("shell", lambda each: Shell(_path(each), _text(each.get("detail")) or _path(each))),
        python=read(
            "python", lambda each: Python(_path(each), _version(r"Python ([^ ]{1,50}) ", each), _roots(each))
        ),
        node=read(
            "node", lambda each: Node(_path(each), _version(r"Node\.js ([^ ]{1,50}) ", each), _roots(each))
        ),
        layout=_layout(document.get("layout")),
        host_network=_host_network(document.get("hostNetwork")),
        core_pattern=_text(document.get("corePattern")) or "",
    )


def _primitive(told: object, meaning: Callable[[Told], F]) -> F | Missing:
    if told is None:
        return Missing(NOT_TOLD)
    if not isinstance(told, dict):
        return Missing(UNREADABLE)
    if told.get("available") is not True:
        reason = told.get("reason")
        return Missing(
            _shown(reason) if isinstance(reason, str) and reason else NOT_TOLD,
            tried=told.get("tried") is not False,
            passing=told.get("passing") is True,
        )
    try:
        return meaning(told)
    except ValueError:
        return Missing(UNREADABLE)


def _shown(text: str) -> str:
    """The beginning of a text, on one line."""
    return "".join(each if each.isprintable() else "\N{REPLACEMENT CHARACTER}" for each in text[:MOST_TEXT])


def _text(told: object) -> str | None:
    """A text that is one line and not too long."""
    plain = isinstance(told, str) and len(told) <= MOST_TEXT and told.isprintable()
    return str(told) if plain else None


def _texts(told: object) -> tuple[str, ...]:
    listed = told[:MOST_LISTED] if isinstance(told, list) else []
    return tuple(text for each in listed if (text := _text(each)))


def _number(told: object) -> int | None:
    return told if type(told) is int and 0 <= told < 2**32 else None


def _path(told: Told) -> str:
    path = _text(told.get("path"))
    if path is None or not path.startswith("/"):
        raise _UnreadableError
    return path


def _roots(told: Told) -> tuple[str, ...]:
    return tuple(root for root in _texts(told.get("roots")) if root.startswith("/"))


def _found(pattern: str, told: Told) -> re.Match[str]:
    found = re.match(pattern, _text(told.get("detail")) or "")
    if found is None:
        raise _UnreadableError
    return found


def _version(pattern: str, told: Told) -> str:
    """The version in a detail; it decides nothing, so that another wording makes nothing missing."""
    found = re.match(pattern, _text(told.get("detail")) or "")
    return "" if found is None else found[1]


def _wrapper_kind(told: object) -> WrapperKind | None:
    # Agents that knew of one wrapper alone did not name it.
    if told is None:
        return WrapperKind.BUBBLEWRAP
    return next((kind for kind in WrapperKind if kind.value == told), None)


def _wrapper(told: Told, kind: WrapperKind | None) -> InstalledWrapper:
    if kind is None:
        raise _UnreadableError
    detail = re.match(r"\w+(?: ([^ ()]{1,50}))? \((\w{1,50})\)", _text(told.get("detail")) or "")
    version, origin = (detail[1] or "", detail[2]) if detail is not None else ("", "")
    return InstalledWrapper(kind, Program(_path(told), version, origin, _roots(told)))


def _uids(told: Told, own: Identity) -> Uids:
    text = _text(told.get("path")) or ""
    found = UidRange.parse(text)
    return Uids(found if own.uid == 0 else SubordinateRange(found.first, found.last, own))


def _cgroup(told: Told) -> Cgroup:
    path = _text(told.get("path")) or ""
    mounts = _roots(told)
    if path.startswith("v1:"):
        places = [Path(each) for each in path.removeprefix("v1:").split(":") if each.startswith("/")]
        if len(places) not in (1, 2, 3):
            raise _UnreadableError
        memory, pids, *accounted = places if len(places) > 1 else (places[0], places[0])
        return Cgroup(Place(LegacySubtree(memory, pids, *accounted), mounts))
    is_scope = "transient scope" in (_text(told.get("detail")) or "")
    return Cgroup(Place(Path(_path(told)), mounts, is_scope))


def _macvlan(told: Told) -> MacvlanAddresses:
    return MacvlanAddresses.of(_text(told.get("path")) or "")


def _layout(told: object) -> SystemLayout:
    if not isinstance(told, dict):
        return SystemLayout()
    links = told.get("links")
    pairs = [_texts(each) for each in (links[:MOST_LISTED] if isinstance(links, list) else [])]
    return SystemLayout(
        links=tuple((pair[0], pair[1]) for pair in pairs if len(pair) == 2),
        directories=_texts(told.get("directories")),
        etc=_texts(told.get("etc")),
    )


def _host_network(told: object) -> HostNetwork:
    if not isinstance(told, dict):
        return HostNetwork()
    resolvers = (_address(each) for each in _texts(told.get("resolvers")))
    return HostNetwork(
        resolvers=tuple(each for each in resolvers if each is not None),
        has_ipv6=told.get("hasIpv6") is True,
        speaks_ipv6=told.get("speaksIpv6") is not False,
        lists_pairs=told.get("listsPairs") is not False,
        read=told.get("read") is not False,
    )


def _address(text: str) -> Address | None:
    try:
        return ip_address(text)
    except ValueError:
        return None
