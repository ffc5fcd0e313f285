"""What a container was not given that a sandbox needs, and how each runtime is told to give it. Pure.

docs/containers.md has the same as a table, with what each gives away.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from ringfence.containers.surroundings import SWITCHES, Surroundings
from ringfence.sandbox.capabilities.found import Missing
from ringfence.sandbox.capabilities.model import SANDBOX_UID, Capabilities
from ringfence.sandbox.wire import WireModel

PROFILE = "ringfence-userns.json"


class Lacking(WireModel):
    """One thing that a container lacks: why it is needed, and what gives it, for each runtime."""

    name: str
    why: str
    docker: str
    podman: str
    kubernetes: str


def missing(capabilities: Capabilities, around: Surroundings) -> tuple[Lacking, ...]:
    """What this container lacks, the first cause first; nothing outside of containers."""
    return tuple(_missing(capabilities, around)) if around.runtime is not None else ()


def _missing(capabilities: Capabilities, around: Surroundings) -> Iterator[Lacking]:
    # A root that cannot become another user has tried nothing else.
    stuck = capabilities.supervisor_is_root and _lacks(capabilities.identity_drop)
    if stuck:
        yield USER
    namespaces = _lacks(capabilities.user_namespaces) or _lacks(capabilities.network_namespaces)
    if around.refused_calls or (namespaces and not stuck):
        yield from _what_keeps_namespaces(around)
    if around.masked is not None and (namespaces or _lacks(capabilities.fresh_proc)):
        # Without namespaces none was tried; it would be refused next.
        yield _unmasked(around)
    elif not namespaces and _lacks(capabilities.fresh_proc):
        yield _unconfined(around)
    if not around.has_temporary_directory:
        yield TEMPORARY
    if _lacks(capabilities.tun) and not around.has_tun and not (namespaces or around.refused_calls):
        yield TUN


def explained_by(lacking: Iterable[Lacking]) -> frozenset[str]:
    """The primitives that a sandbox lacks because of this: general advice on them would lead elsewhere."""
    return frozenset(name for one in lacking for name in _EXPLAINS.get(one.name, _NAMESPACES))


_NAMESPACES = frozenset({"userNamespaces", "networkNamespaces", "freshProc", "overlay", "relay", "tun"})
_EXPLAINS = {
    "unmasked /proc": frozenset({"freshProc"}),
    "temporary directory": frozenset[str](),
    "/dev/net/tun": frozenset({"tun"}),
    "user": _NAMESPACES | {"identityDrop"},
}
"""All others forbid namespaces, and with them all that is made there."""


def _lacks(primitive: object) -> bool:
    """Whether it was tried, and is not there for a reason that lasts."""
    return isinstance(primitive, Missing) and primitive.tried and not primitive.passing


def _what_keeps_namespaces(around: Surroundings) -> Iterator[Lacking]:
    """All that is known to forbid namespaces; where nothing is, what may."""
    if around.refused_calls:
        yield _profile(f"the container's filter of system calls refuses {', '.join(around.refused_calls)}")
    yield from map(_setting, around.closed_settings)
    if around.refused_calls or around.closed_settings:
        return
    if _is_confined(around):
        yield _unconfined(around)
    elif around.has_call_filter:
        yield _profile("namespaces cannot be made, and the container has a filter of system calls")


def _is_confined(around: Surroundings) -> bool:
    return around.lsm_label not in ("", "unconfined", "kernel")


def _profile(why: str) -> Lacking:
    return Lacking(
        name="seccomp profile",
        why=f"{why} (`ringfence doctor --print-seccomp > {PROFILE}` makes the profile)",
        docker=f"--security-opt seccomp={PROFILE}",
        podman=f"--security-opt seccomp={PROFILE}",
        kubernetes=f"securityContext.seccompProfile: {{type: Localhost, localhostProfile: {PROFILE}}}",
    )


def _unmasked(around: Surroundings) -> Lacking:
    return Lacking(
        name="unmasked /proc",
        why=f"a run gets a /proc of its own, which the kernel refuses as long as something covers a part of ours"
        f" ({around.masked})",
        docker="--security-opt systempaths=unconfined",
        podman="--security-opt unmask=ALL",
        kubernetes="securityContext.procMount: Unmasked, in a pod with hostUsers: false",
    )


def _unconfined(around: Surroundings) -> Lacking:
    if ":" in around.lsm_label:
        return Lacking(
            name="SELinux label",
            why=f"what holds for the container ({around.lsm_label}) keeps it from making namespaces or mounts",
            docker="--security-opt label=disable",
            podman="--security-opt label=disable",
            kubernetes="securityContext.seLinuxOptions: {type: spc_t}",
        )
    return Lacking(
        name="AppArmor profile",
        why=f"the container's profile ({around.lsm_label or 'unknown'}) keeps it from making namespaces or mounts",
        docker="--security-opt apparmor=unconfined",
        podman="--security-opt apparmor=unconfined",
        kubernetes="securityContext.appArmorProfile: {type: Unconfined}",
    )


def _setting(name: str) -> Lacking:
    value = {SWITCHES[0]: 1, SWITCHES[1]: 0}.get(name, 15000)
    command = f"on the machine, as root: sysctl -w {name}={value}"
    return Lacking(
        name=name,
        why="this setting of the kernel forbids the namespaces that runs have",
        docker=command,
        podman=command,
        kubernetes=f"on each node, as root: sysctl -w {name}={value}",
    )


TEMPORARY = Lacking(
    name="temporary directory",
    why="there is no directory for temporary files that we can write to, which every run needs",
    docker="--tmpfs /tmp",
    podman="--tmpfs /tmp",
    kubernetes="volumes: an emptyDir that is mounted at /tmp",
)

USER = Lacking(
    name="user",
    why="root without capabilities cannot become another user for a run",
    docker=f"--user {SANDBOX_UID}:{SANDBOX_UID}",
    podman=f"--user {SANDBOX_UID}:{SANDBOX_UID}",
    kubernetes=f"securityContext: {{runAsUser: {SANDBOX_UID}, runAsGroup: {SANDBOX_UID}, runAsNonRoot: true}}",
)

TUN = Lacking(
    name="/dev/net/tun",
    why="where the relay cannot work, slirp4netns gives runs a network by this device",
    docker="--device /dev/net/tun",
    podman="--device /dev/net/tun",
    kubernetes="a device plugin that offers /dev/net/tun",
)
