"""What the files of a service say: its unit, its settings, and the user that it runs as. Pure.

Threat: a service that somebody takes over. Mechanism: it is not root, sees the machine's files read-only, has no device
but that of tunnels and no capability, and can gain only those that `newuidmap` needs; its credentials are readable by
root alone. Not covered: what systemd could do only by taking away what sandboxes are made with; each such option is
named in the unit, with the reason.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

USER = "ringfence"
"""The user that services run as where nobody says otherwise."""
ROOT = "root"


@dataclass(frozen=True, slots=True)
class Service:
    """A service that there is: its unit's name, what it is, and what it needs to be told of the machine."""

    name: str
    description: str
    variables: str
    """The name of the file with its settings."""
    state: tuple[str, ...]
    """What it may write under /var/lib, or under its user's own directory of state."""
    environment: tuple[str, ...]
    """What it is told of that; `%S` is where it is."""
    after: tuple[str, ...]
    """What it is started after, if that is there."""
    credentials: bool
    """Whether it has credentials that systemd is to hand to it."""
    stop_seconds: int


HOST = Service(
    name="ringfence",
    description="Ringfence host",
    variables="host.env",
    state=("ringfence",),
    environment=("RINGFENCE_DATA_DIR=%S/ringfence",),
    after=("postgresql.service",),
    credentials=False,
    stop_seconds=180,
)
SATELLITE = Service(
    name="ringfence-satellite",
    description="Ringfence satellite",
    variables="satellite.env",
    # The first is the user's home, where the supervisors of one machine see which uids are in use.
    state=("ringfence", "ringfence/satellite"),
    environment=("RINGFENCE_AGENT_STATE_DIR=%S/ringfence/satellite",),
    after=(),
    credentials=True,
    stop_seconds=60,
)


def unit_of(
    service: Service,
    command: Sequence[str],
    *,
    directory: str,
    run_as: str | None,
    writable: Sequence[str] = (),
) -> str:
    """The unit of a service.

    Args:
        service: which.
        command: the program and its arguments.
        directory: where its settings and credentials are.
        run_as: the user that it runs as; None for a unit of a user's own manager.
        writable: directories that it may write beside its state.
    """
    own = run_as is None
    start = [*command, *_credentials(service, directory, own)]
    lines = [
        "[Unit]",
        f"Description={service.description}",
        *(
            ()
            if own
            else (
                "Wants=network-online.target",
                f"After={' '.join(('network-online.target', *service.after))}",
            )
        ),
        "",
        "[Service]",
        "Type=notify",
        f"ExecStart={' '.join(map(_word, start))}",
        *(f"Environment={one}" for one in service.environment),
        f"EnvironmentFile=-{_path(f'{directory}/{service.variables}')}",
        *(_loaded(directory) if service.credentials and not own else ()),
        *(() if own else (f"User={run_as}",)),
        f"StateDirectory={' '.join(service.state)}",
        "# Runs have users of their own, which have to reach the packages that they import.",
        "StateDirectoryMode=0711",
        "# Each run has a cgroup of its own under this one, in which the kernel keeps its limits. One that is ended",
        "# for its memory is no reason to stop the service.",
        "Delegate=yes",
        "OOMPolicy=continue",
        "TasksMax=infinity",
        "LimitNOFILE=65536",
        "Restart=always",
        "RestartSec=2",
        "TimeoutStartSec=300",
        f"TimeoutStopSec={service.stop_seconds}",
        "# The service ends what it has started itself, in good order.",
        "KillMode=mixed",
        "WatchdogSec=120",
        "",
        *(_OWN_MANAGER if own else _hardening(run_as == ROOT, writable)),
        "",
        "[Install]",
        f"WantedBy={'default.target' if own else 'multi-user.target'}",
        "",
    ]
    return "\n".join(lines)


def _ordering(service: Service) -> tuple[str, ...]:
    return ("Wants=network-online.target", f"After={' '.join(('network-online.target', *service.after))}")


_OWN_MANAGER = (
    "# A user's manager can take nothing more away from this service: ProtectSystem= and the like would put it into",
    "# a user namespace, in which newuidmap gives no run a user of its own.",
)

_FILES = (
    "# What it may not do.",
    "ProtectSystem=strict",
    "# Not `yes`: the policy may show scripts what is there, and an installation may be there.",
    "ProtectHome=read-only",
    "PrivateTmp=yes",
    "DevicePolicy=closed",
    "# For the network of runs that may reach some addresses.",
    "DeviceAllow=/dev/net/tun rw",
)

_CAPABILITIES = (
    "# The service has none. newuidmap and newgidmap, which give each run a user of its own, need these; where they",
    "# are set-uid programs, as on Debian, all four.",
    "CapabilityBoundingSet=CAP_SETUID CAP_SETGID CAP_DAC_OVERRIDE CAP_SYS_ADMIN",
)

_CAPABILITIES_OF_ROOT = (
    "# CapabilityBoundingSet= is left out: a supervisor that is root makes each sandbox as another user, mounts, and",
    "# makes links of networks; it gives up what it does not need by itself.",
    "# What it writes beside its state: which uids are in use on this machine, for all supervisors (ringfence-uids).",
    "ReadWritePaths=/var/lib",
)

_LEFT_OUT = """\
# What is left out, and why:
# RestrictNamespaces=: sandboxes are made of namespaces.
# NoNewPrivileges=, and what implies it for a service that is not root (SystemCallFilter=,
#   SystemCallArchitectures=, RestrictAddressFamilies=, RestrictRealtime=, RestrictSUIDSGID=, LockPersonality=,
#   MemoryDenyWriteExecute=, PrivateDevices=, ProtectClock=, ProtectHostname=, ProtectKernelModules=): newuidmap
#   could not do its work. Scripts have a filter of system calls of their own, and cannot gain privileges.
# ProtectKernelTunables=, ProtectKernelLogs=, ProtectProc=, ProcSubset=: they mount something over /proc, and
#   then the kernel lets no sandbox have a /proc of its own, which would show what is covered.
# ProtectControlGroups=: each run has a cgroup.
# PrivateUsers=: the users of runs, from /etc/subuid, are not in such a namespace.
# PrivateNetwork=, IPAddressDeny=: scripts reach what the policy allows, from here.
# PrivateIPC=, RootDirectory=: each run has namespaces of its own for these.
# UMask=: files that others may not read are made so one by one; the users of runs have to read packages.
""".splitlines()


def _hardening(root: bool, writable: Sequence[str]) -> tuple[str, ...]:
    own = (f"ReadWritePaths={' '.join(map(_word, writable))}",) if writable else ()
    return (*_FILES, *own, *(_CAPABILITIES_OF_ROOT if root else _CAPABILITIES), *_LEFT_OUT)


def _credentials(service: Service, directory: str, own: bool) -> tuple[str, ...]:
    if not service.credentials:
        return ()
    return ("--credentials", f"{directory}/satellite" if own else "${CREDENTIALS_DIRECTORY}")


def _loaded(directory: str) -> tuple[str, ...]:
    return (
        "# These are root's, and are given to the service at its start; start it again when they have changed.",
        f"LoadCredential=client-id:{_path(f'{directory}/satellite/client-id')}",
        f"LoadCredential=token:{_path(f'{directory}/satellite/token')}",
    )


def _path(path: str) -> str:
    """A path, for an option that takes it as it is (systemd.unit(5), "Specifiers")."""
    return path.replace("%", "%%")


def _word(word: str) -> str:
    """A word of a command line, as systemd.service(5) reads it; a variable in braces is left to systemd."""
    text = word.replace("%", "%%")
    if text != "${CREDENTIALS_DIRECTORY}":
        text = text.replace("$", "$$")
    if not any(one in text for one in " \t\"'\\;"):
        return text
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def environment_of(variables: Mapping[str, str], about: str, before: str = "") -> str:
    """A file of settings, as `EnvironmentFile=` reads it. What the file has said before stays, but for `variables`."""
    lines = before.splitlines() or [f"# {about}"]
    said = {line.partition("=")[0].strip(): number for number, line in enumerate(lines)}
    for name, value in variables.items():
        line = f"{name}={_quoted(value)}"
        if name in said:
            lines[said[name]] = line
        else:
            lines.append(line)
    return "\n".join((*lines, ""))


def _quoted(value: str) -> str:
    """A value in double quotes, in which only these characters are escaped (systemd.exec(5), "EnvironmentFile=")."""
    text = "".join(f"\\{one}" if one in '"\\`$' else one for one in value)
    return f'"{text}"'


def sysusers_of(user: str) -> str:
    """A file for systemd-sysusers(8) that says of the user."""
    return f'# The user that Ringfence\'s services run as.\nu {user} - "Ringfence" /var/lib/ringfence\n'
