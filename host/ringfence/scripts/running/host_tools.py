"""Which programs a script calls that look at the host, and what of them shows the sandbox in its place: a guess.

A script is not understood here, only looked through for names where a shell would take them for commands, or as the
first word of a text in quotes. What it does in another way is not told, and what is told may never be called.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable

from ringfence.sandbox.policy import HostView

LONGEST = 256 * 1024
"""So much of a script is looked through."""

_BY_VIEW: dict[HostView, tuple[str, ...]] = {
    HostView.DISKS: (
        "df",
        "mount",
        "findmnt",
        "lsblk",
        "iostat",
        "check_disk",
        "check_disks",
        "check_readonlyfs",
    ),
    HostView.PROCESSES: ("ps", "top", "pgrep", "pidof", "lsof", "psutil", "check_procs"),
    HostView.NETWORK: ("ss", "netstat", "check_tcpcount"),
}
_ANYWAY = ("free", "uptime", "vmstat", "check_load", "check_swap", "check_memory", "check_uptime")
"""What these tell is of the whole machine in every sandbox (docs/limits.md)."""

_BY_PATHS = {
    "apt list": "/var/lib/dpkg and /var/lib/apt",
    "check_apt": "/var/lib/dpkg and /var/lib/apt",
    "dpkg-query": "/var/lib/dpkg",
    "who": "/run/utmp",
    "check_users": "/run/utmp",
}
_NEVER = (
    "systemctl",
    "journalctl",
    "service",
    "check_systemd",
    "dmesg",
    "check_network_errors",
    "check_nbprocs",
)
"""These ask a service, or the kernel for what no run is told, or look for processes where a run has links."""

_NAMES = (*(name for names in _BY_VIEW.values() for name in names), *_ANYWAY, *_BY_PATHS, *_NEVER)
_NAME = "|".join(re.escape(name).replace(r"\ ", r"\s+") for name in sorted(_NAMES, key=len, reverse=True))
_COMMAND = re.compile(
    # Where a command may begin: a line, what follows a control operator or a reserved word, a text in quotes.
    r"(?:^|[|;&(`{!]|\b(?:then|do|else|if|elif|while|until|exec|sudo|nice|time|env|command)\s|[\"'])[ \t]*"
    rf"(?:/[\w./-]*/)?({_NAME})(?![\w./-])(?!\s*(?:[=\[(.,:]|[+*/%-]=))",
    re.MULTILINE,
)
_MODULE = re.compile(r"^\s*(?:import|from)\s+[\w, .]*\b(psutil)\b", re.MULTILINE)
_COMMENT = re.compile(r"^\s*#.*$", re.MULTILINE)


@functools.lru_cache(maxsize=256)
def host_tools_in(text: str) -> tuple[str, ...]:
    """The names of what looks at the host in a script, or in the words of a command, each once, as they come."""
    text = _COMMENT.sub("", text[:LONGEST])
    found = sorted((match.start(1), match[1]) for by in (_COMMAND, _MODULE) for match in by.finditer(text))
    return tuple(dict.fromkeys(" ".join(name.split()) for _, name in found))


def told_of(tools: Iterable[str], shown: Iterable[HostView], paths: Iterable[str] = ()) -> str | None:
    """What is to be told of a script that calls these, under a policy that shows so much; None for nothing."""
    shown, has_paths = frozenset(shown), bool(tuple(paths))
    parts = [part for tool in dict.fromkeys(tools) if (part := _told(tool, shown, has_paths)) is not None]
    if not parts:
        return None
    return f"the script looks at the host, of which the sandbox shows nothing: {'; '.join(parts)}"


def _told(tool: str, shown: frozenset[HostView], has_paths: bool) -> str | None:
    for view, names in _BY_VIEW.items():
        if tool in names:
            return None if view in shown else f"{tool} needs {view} in the policy's filesystem.hostView"
    if tool in _BY_PATHS:
        return None if has_paths else f"{tool} needs {_BY_PATHS[tool]} in the policy's filesystem.hostPaths"
    return f"{tool} asks what no sandbox reaches" if tool in _NEVER else None
