"""The variables that are settings, as far as they are known without a model, and those that look like one and are not.

The agent and most commands load neither the host's model of settings nor any plugin, so as to start quickly.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

ENTRY_POINTS = "ringfence.plugins"
"""Where an installed plugin is declared, by its id."""
OPTIONAL_ENTRY_POINTS = "ringfence.plugins.optional"
"""Where a plugin is declared that may fail to be imported: only what is written outside of it can say so."""

PREFIX = "RINGFENCE_"
_ALIKE = 0.6
"""How much of a name must be that of a setting to be taken for a slip (see `difflib`)."""


@dataclass(frozen=True, slots=True)
class Setting:
    """One setting: its variable, whose it is, what it is for, and its default (None: it is not set)."""

    variable: str
    owner: str
    description: str
    default: str | None = None
    secret: bool = False


@dataclass(frozen=True, slots=True)
class Unknown:
    """A variable that is no setting, and the setting whose name is nearest, if one is near."""

    variable: str
    nearest: str | None

    def __str__(self) -> str:
        """The sentence that tells of it."""
        advice = f": did you mean {self.nearest}?" if self.nearest else ""
        return f"{self.variable} is not a setting and has no effect{advice}"


def unknown(environ: Iterable[str], known: Iterable[str]) -> tuple[Unknown, ...]:
    """The variables of `environ` that look like settings and are none."""
    names = {
        name.removeprefix(PREFIX) for name in known
    }  # which all share the prefix, and so say nothing by it
    strange = {name.removeprefix(PREFIX) for name in environ if name.startswith(PREFIX)} - names
    return tuple(Unknown(PREFIX + name, _nearest(name, names)) for name in sorted(strange))


def unknown_without_a_host(
    environ: Iterable[str], plugins: Callable[[], Iterable[str]] | None = None
) -> tuple[Unknown, ...]:
    """The same for a process that loads neither a host nor plugins.

    A variable that begins with the id of an installed plugin is for that plugin to judge, in a host. `plugins` gives
    these ids, by default those of the entry points.
    """
    found = unknown(environ, (*(one.variable for one in EVERYWHERE), *OF_HOSTS))
    if not found:
        return ()
    theirs = tuple(f"{PREFIX}{id.upper().replace('-', '_')}_" for id in (plugins or _installed)())
    return tuple(one for one in found if not one.variable.startswith(theirs))


def _installed() -> Iterable[str]:
    import importlib.metadata

    for group in (ENTRY_POINTS, OPTIONAL_ENTRY_POINTS):
        yield from importlib.metadata.entry_points(group=group).names


def _nearest(name: str, names: Iterable[str]) -> str | None:
    import difflib

    alike = difflib.get_close_matches(name, sorted(names), n=1, cutoff=_ALIKE)
    return PREFIX + alike[0] if alike else None


OF_HOSTS = tuple(
    PREFIX + name
    for name in (
        "DATABASE_URL",
        "DATABASE_WAIT_SECONDS",
        "DATA_DIR",
        "HOST",
        "PORT",
        "SOCKET",
        "TRUSTED_PROXIES",
        "START_SECONDS",
        "SHUTDOWN_SECONDS",
        "DRAIN_SECONDS",
        "DRAIN_LINGER_SECONDS",
        "EVENT_RETENTION_DAYS",
        "JOB_RETENTION_DAYS",
        "SESSION_HOURS",
        "SESSION_IDLE_HOURS",
        "ALLOWED_HOSTS",
        "PUBLIC_URL",
        "METRICS_ADDRESS",
    )
)
"""What the host's own model reads (`ringfence.settings.HostSettings`)."""

EVERYWHERE = (
    Setting("RINGFENCE_CONFIG", "commands", "the settings file", "ringfence.toml in the data directory"),
    Setting("RINGFENCE_URL", "commands", "the host that commands talk to", "the one of the data directory"),
    Setting(
        "RINGFENCE_TOKEN",
        "commands",
        "the token that commands sign in with",
        "the administrator's, on the host's machine",
        secret=True,
    ),
    Setting("RINGFENCE_TOKEN_FILE", "commands", "the file of that token, where RINGFENCE_TOKEN is not set"),
    Setting(
        "RINGFENCE_PROFILE",
        "commands",
        "the host that commands talk to, by the name that it was signed in to with",
        "the one that was signed in to last",
    ),
    Setting(
        "RINGFENCE_CA_FILE",
        "commands",
        "a file of certificates (PEM) to trust beside the system's, for agents and commands",
    ),
    Setting(
        "RINGFENCE_CLIENT_CERT",
        "commands",
        "a certificate (PEM) that agents and commands show where a proxy before the host asks for one",
    ),
    Setting(
        "RINGFENCE_CLIENT_KEY", "commands", "the key of that certificate, where its file does not hold it"
    ),
    Setting("RINGFENCE_LOG_LEVEL", "commands", "debug, info, warning or error", "info"),
    Setting("RINGFENCE_LOG_FORMAT", "commands", "text or json", "text on a terminal, and json elsewhere"),
    Setting("RINGFENCE_DEBUG", "commands", "1 shows the tracebacks of unexpected errors", "0"),
    Setting(
        "RINGFENCE_AGENT_URL", "agent", "the addresses of the host's instances, with spaces between them"
    ),
    Setting(
        "RINGFENCE_AGENT_CREDENTIALS",
        "agent",
        "a directory with the satellite's id and token, client-id and token",
    ),
    Setting(
        "RINGFENCE_AGENT_STATE_DIR", "agent", "where results wait for the host", "beside the token's file"
    ),
    Setting("RINGFENCE_HEARTBEAT_SECONDS", "agent", "the pause between two heartbeats, in seconds", "15"),
    Setting(
        "RINGFENCE_PYTHON", "scripts", "the interpreter of Python scripts", "the first that a run can reach"
    ),
    Setting("RINGFENCE_NODE", "scripts", "the interpreter of ESM scripts", "the first that a run can reach"),
    Setting("RINGFENCE_MAX_CONCURRENT_RUNS", "scripts", "how many scripts run at once", "4 per processor"),
    Setting("RINGFENCE_WARM_SANDBOXES", "scripts", "how many sandboxes wait ready", "4"),
    Setting(
        "RINGFENCE_SCRIPT_PACKAGES",
        "scripts",
        "a directory of packages that scripts without a set may import",
    ),
    Setting("RINGFENCE_WRAPPER", "sandbox", "what makes the sandboxes: bubblewrap or nsjail", "bubblewrap"),
    Setting("RINGFENCE_NSJAIL", "sandbox", "the path of an nsjail that is not on the path"),
    Setting(
        "RINGFENCE_MACVLAN",
        "sandbox",
        "addresses on a network of the machine that runs may have, in place of a userspace stack, where the supervisor "
        "is root: eth0 192.0.2.100-192.0.2.131/24 via 192.0.2.1",
    ),
    Setting(
        "RINGFENCE_UIDS",
        "sandbox",
        "the uids that runs of a root supervisor have to themselves: FIRST-LAST or FIRST:COUNT",
        "2000000000-2000065535",
    ),
    Setting(
        "RINGFENCE_CGROUP",
        "sandbox",
        "a cgroup v2 subtree for limits that the kernel keeps; not needed in a unit of systemd with Delegate=yes, nor "
        "in a login session",
    ),
)
"""What is read where it is used, with a host or without: by sandboxes, runners, agents and commands.

The sandbox stands on nothing of the host, so no model reads these.
"""
