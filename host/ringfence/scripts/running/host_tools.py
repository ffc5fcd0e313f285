"""Which programs tell of the host, and what of it each has to be shown to tell the truth. Pure.

Threat: a program that tells of the host is run where it sees the sandbox in its place, finds everything well there,
and a system is called healthy at which nobody has looked. Mechanism: a table of programs by their names, which
`told_program` holds a command to, and `told_in_text` the text of a script. Not covered: programs that are not in it.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass

from ringfence.sandbox.policy import HostView


def _nothing(_: str) -> bool:
    return False


@dataclass(frozen=True, slots=True)
class Shown:
    """What of the host a run sees: these parts, the paths for which `has` says so, and this of its sockets.

    `measures` says of which paths the run has the numbers of the host's own file system, and `leads_to` what a path is
    a link to.
    """

    views: frozenset[HostView] = frozenset()
    has: Callable[[str], bool] = _nothing
    measures: Callable[[str], bool] = _nothing
    sockets: Collection[str] = ()
    leads_to: Callable[[str], str] = str


NOTHING = Shown()
"""What a run sees where its policy shows nothing, or is not known."""

BY_VIEW: Mapping[HostView, tuple[str, ...]] = {
    HostView.DISKS: (
        "df",
        "iostat",
        "lsblk",
        "check_disk",
        "check_disks",
        "check_ifmountfs",
        "check_readonlyfs",
    ),
    HostView.PROCESSES: ("ps", "top", "htop", "pgrep", "pidof", "pstree", "psutil", "check_procs"),
    HostView.NETWORK: ("ss", "netstat", "check_tcpcount"),
}
"""What each word of `filesystem.hostView` lets tell the truth."""

MEASURING = frozenset({"df", "check_disk", "check_disks"})
"""These give the numbers of file systems: a run has them for those that are named, and are shown."""

ANYWAY = (
    "free",
    "uptime",
    "vmstat",
    "check_cswch",
    "check_intr",
    "check_load",
    "check_madrisan_swap",
    "check_madrisan_uptime",
    "check_memory",
    "check_paging",
    "check_swap",
    "check_uptime",
    "pmp-check-unix-memory",
)
"""What these tell is of the whole machine in every sandbox (docs/limits.md)."""

_PACKAGES = ("/var/lib/dpkg", "/var/lib/apt", "/etc/apt")
_USERS = ("/var/run/utmp",)
BY_PATHS: Mapping[str, tuple[str, ...]] = {
    "apt list": _PACKAGES,
    "apt-get": _PACKAGES,
    "check_apt": _PACKAGES,
    "check_etc_hosts": ("/etc/hosts",),
    "check_etc_resolv": ("/etc/resolv.conf",),
    "check_madrisan_users": _USERS,
    "check_packages": _PACKAGES,
    "check_running_kernel": ("/boot", "/var/lib/dpkg"),
    "check_users": _USERS,
    "dpkg": ("/var/lib/dpkg",),
    "dpkg-query": ("/var/lib/dpkg",),
    "last": ("/var/log/wtmp",),
}
"""The files that these read."""

_SYSTEMD = ("/run/dbus/system_bus_socket", "/run/systemd/private")
BY_SOCKETS: Mapping[str, tuple[str, ...]] = {"systemctl": _SYSTEMD, "check_systemd": _SYSTEMD}
"""The sockets of which these need one."""

_NEEDS_SYS = "needs a word in the policy's filesystem.hostView, by which /sys is shown"
_INTERFACES = "asks the kernel for interfaces, and is told of the run's own"
_OPEN_FILES = "looks at what other processes have open, which no run sees"
_DEVICES = "needs a device, or a right, that no run has"
_LIVING = "looks whether the processes of sessions are alive, and no run sees that they are"
_OF_A_USER = "tells of the processes of a user, and all that a run is shown are nobody's"
NEVER: Mapping[str, str] = {
    "check_ide_smart": _DEVICES,
    "check_libs": _OPEN_FILES,
    "check_libs_ng": _OPEN_FILES,
    "check_multipath": _DEVICES,
    "check_nbprocs": "looks for processes among the directories of /proc, where a run has links",
    "check_network": _INTERFACES,
    "check_network_collisions": _INTERFACES,
    "check_network_dropped": _INTERFACES,
    "check_network_errors": _INTERFACES,
    "check_network_multicast": _INTERFACES,
    "dmesg": _DEVICES,
    "findmnt": "tells of the run's own mounts",
    "fuser": _OPEN_FILES,
    "ifconfig": _INTERFACES,
    "ip": _INTERFACES,
    "irqstats": "reads what of /proc is empty in a run",
    "journalctl": "reads files that no run may read",
    "lsof": _OPEN_FILES,
    "mount": "tells of the run's own mounts",
    "pmp-check-lvm-snapshots": _DEVICES,
    "pmp-check-mysql-deleted-files": _OPEN_FILES,
    "psu_": _OF_A_USER,
    "w": _LIVING,
    "who": _LIVING,
    "service": "asks what no sandbox reaches",
    "smartctl": _DEVICES,
}
"""Why these never tell of the host."""

OF_MUNIN: Mapping[str, str] = {
    "cpuspeed": "lscpu",
    "df_inode": "df",
    "fw_conntrack": "ss",
    "fw_forwarded_local": "dmesg",
    "fw_packets": "ss",
    "if_": "ip",
    "if_err_": "ip",
    "proc_pri": "ps",
    "processes": "ps",
    "ps_": "ps",
    "tcp": "ss",
    "threads": "check_nbprocs",
    "users": "who",
}
"""Munin's plugins of other names, and whose lack is theirs. One whose name ends with `_` is called so and something."""

BY_ANY_VIEW = ("lscpu", "sensors")
"""These read `/sys`, which is the host's with any word of `hostView`."""

READING = frozenset(
    {
        "[",
        "cat",
        "check_checksums",
        "check_file_age",
        "check_log",
        "check_mrtg",
        "check_mrtgtraf",
        "check_nagios",
        "check_statusfile",
        "du",
        "head",
        "ls",
        "stat",
        "tail",
        "test",
        "wc",
    }
)
"""These tell of the files that they are given by their paths."""

_BY_VIEWS = (*(name for names in BY_VIEW.values() for name in names), *BY_ANY_VIEW)
BY_NAME = (*_BY_VIEWS, *ANYWAY, *BY_PATHS, *BY_SOCKETS, *NEVER)
"""All that tell of the host, whatever they are given."""

_OF_PROC = {"mounts": HostView.DISKS, "net": HostView.NETWORK}
"""What of `/proc` is the run's own, unless the policy shows this; and so is what is named by a number, or `self`."""
_OWN = ("/dev", "/packages", "/tmp")  # noqa: S108 - inside the sandbox


def of_a_user(tool: str) -> str:
    """Why such a tool cannot tell of the processes of one user."""
    return f"{tool} {_OF_A_USER}"


def lacking(tool: str, shown: Shown) -> str | None:
    """What a tool would need that it is not shown, or why there is no such thing; None if it tells the truth."""
    for view, names in BY_VIEW.items():
        if tool in names:
            return None if view in shown.views else _needs_view(tool, view)
    if tool in BY_PATHS:
        absent = [path for path in BY_PATHS[tool] if not shown.has(path)]
        return f"{tool} needs {_listed(absent)} in the policy's filesystem.hostPaths" if absent else None
    if tool in BY_SOCKETS:
        needed = BY_SOCKETS[tool]
        if not shown.sockets or set(needed).isdisjoint(shown.sockets):
            return f"{tool} needs unix:{needed[0]} in the policy's network.allow"
        return None
    if tool in BY_ANY_VIEW:
        return None if shown.views else f"{tool} {_NEEDS_SYS}"
    return f"{tool} {NEVER[tool]}" if tool in NEVER else None


def lacking_for(tool: str, path: str, shown: Shown) -> str | None:
    """The same for a tool that tells of a file, which has this path."""
    top, _, rest = path.strip("/").partition("/")
    if top == "proc":
        name = rest.partition("/")[0]
        is_a_process = name in {"", "self", "thread-self"} or name.isdigit()
        view = HostView.PROCESSES if is_a_process else _OF_PROC.get(name)
        return None if view is None or view in shown.views else _needs_view(tool, view)
    if path == "/" or shown.has(path):
        return None
    if top == "sys":
        return f"{tool} {_NEEDS_SYS}"
    if f"/{top}" in _OWN:
        return f"{tool} is given {path}, and a run has a /{top} of its own"
    return f"{tool} needs {path} in the policy's filesystem.hostPaths"


def _needs_view(tool: str, view: HostView) -> str:
    return f"{tool} needs {view} in the policy's filesystem.hostView"


def _listed(paths: list[str]) -> str:
    *first, last = paths
    return f"{', '.join(first)} and {last}" if first else last
