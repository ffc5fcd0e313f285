"""What a script may do: the policy, its shipped default, and what each of its settings means.

A policy is an immutable value. It is written with `overlay` (strict: an unknown key is an error), stored
and sent as its wire form (camelCase JSON), and read from a possibly newer sender with `receive` (never
fails, never looser than sent).
"""

from __future__ import annotations

import enum
from collections.abc import Iterator
from typing import Annotated, Any, Self

from pydantic import AfterValidator, ConfigDict, Field, StrictBool, StrictInt, ValidationError

from ringfence.refusals import in_words
from ringfence.sandbox.policy.addresses import AllowEntry, PortRange
from ringfence.sandbox.policy.destinations import (
    Destination,
    LocalEntry,
    NameEntry,
    SocketEntry,
    parse_entry,
)
from ringfence.sandbox.policy.meanings import meant
from ringfence.sandbox.policy.paths import host_path
from ringfence.sandbox.wire import WireModel

MiB = 1024 * 1024

LARGEST_LIMIT = 2**53 - 1
"""The largest limit that every JSON reader keeps exact; far above anything that a kernel can give."""

LARGEST_ID = 2**32 - 2
"""The largest uid or gid: the kernel keeps 2**32 - 1 for "no id"."""


MAX_STATE_BYTES = MiB
"""What a run may keep for the next one, unless the policy says otherwise."""

LARGEST_STATE = 64 * MiB
"""The most that a run may keep: it passes through memory, and into a row of the database."""

MOST_ENTRIES = 16_384
"""The most entries that `network.allow` may be given: about a megabyte of text, in the longest spelling."""


class PolicyError(ValueError):
    """A policy that cannot be accepted; `problems` lists every fault with its path, not just the first."""

    def __init__(self, problems: tuple[str, ...]) -> None:
        super().__init__("invalid sandbox policy: " + "; ".join(problems))
        self.problems = problems


class OnUnavailable(enum.StrEnum):
    """What becomes of a run for which the host cannot enforce all that was asked."""

    FAIL = "fail"
    DEGRADE = "degrade"


class FilesystemMode(enum.StrEnum):
    """How much of the host's files a script may read; it can write to its scratch alone."""

    OFF = "off"
    SCRATCH_ONLY = "scratch-only"
    SCRATCH_PLUS_RO = "scratch-plus-ro"


class HostView(enum.StrEnum):
    """What of the host a run is shown beside files, where tools look for it."""

    PROCESSES = "processes"
    DISKS = "disks"
    NETWORK = "network"


class NetworkMode(enum.StrEnum):
    """Where a script may connect to."""

    DENY = "deny"
    ALLOWLIST = "allowlist"
    UNRESTRICTED = "unrestricted"


class PrivilegeMode(enum.StrEnum):
    """Which user a script runs as, seen from outside of its sandbox."""

    INHERIT = "inherit"
    DROP_TO_UID = "drop-to-uid"


class Part(WireModel):
    """The base of every part of a policy: frozen, camelCase on the wire, no unknown keys."""

    model_config = ConfigDict(extra="forbid", validate_default=True)


def _limit(
    default: int, at_least: int, title: str, meaning: str, *, unit: str, most: int = LARGEST_LIMIT
) -> Any:
    return meant(default, title, meaning, unit=unit, ge=at_least, le=most)


class Resources(Part):
    """How much a run may use.

    `cpu_seconds`, `max_open_files` and `max_file_size_bytes` hold per process; `memory_bytes`,
    `max_processes`, `max_scratch_bytes` (all that is written to scratch and `/tmp`) and `max_output_bytes`
    (stdout and stderr together) hold for the run as a whole. Where a cgroup holds `memory_bytes`, what is in scratch
    counts as memory too. `max_state_bytes` is what a check with `keepState` may keep from one run to the next.
    """

    cpu_seconds: StrictInt = _limit(
        60,
        1,
        "Processor time",
        "Processor time of each process. A process that uses more is killed.",
        unit="seconds",
    )
    memory_bytes: StrictInt = _limit(
        512 * MiB,
        16 * MiB,
        "Memory",
        "Memory of a run with all its processes. A run that uses more is killed.",
        unit="bytes",
    )
    max_open_files: StrictInt = _limit(
        1024, 16, "Open files", "How many files and sockets each process may have open at once.", unit="files"
    )
    max_processes: StrictInt = _limit(
        256, 1, "Processes", "How many processes and threads a run may have at once.", unit="processes"
    )
    max_output_bytes: StrictInt = _limit(
        5 * MiB, 0, "Output", "How much a run may print, to stdout and stderr together.", unit="bytes"
    )
    max_file_size_bytes: StrictInt = _limit(
        256 * MiB, 0, "File size", "Size of the largest file that a process may write.", unit="bytes"
    )
    max_scratch_bytes: StrictInt = _limit(
        256 * MiB,
        64 * 1024,
        "Scratch",
        "How much a run may write to its own directory and /tmp. Both are deleted after the run.",
        unit="bytes",
    )
    max_state_bytes: StrictInt = _limit(
        MAX_STATE_BYTES,
        4096,
        "Kept state",
        "How much a check with keepState may keep from one run to the next.",
        unit="bytes",
        most=LARGEST_STATE,
    )


MOST_HOST_PATHS = 256
"""The most paths that `filesystem.hostPaths` may have: each is a mount in every run."""


def once(values: tuple[Any, ...]) -> tuple[Any, ...]:
    """Each of them once, in the order in which they came."""
    return tuple(dict.fromkeys(values))


HostPath = Annotated[str, AfterValidator(host_path)]
"""A path of the host that can be shown."""


class Filesystem(Part):
    """What a run sees of the filesystem, and of the host.

    `host_paths` are shown read-only, each at its own place; `/` shows all but what a run has of its own. `host_view`
    is what else of the host is shown where tools look for it: its processes, disks or network.
    """

    mode: FilesystemMode = meant(
        FilesystemMode.SCRATCH_PLUS_RO,
        "Files",
        "Which files of the machine a script may read. It may write only to its scratch, unless this is off.",
        effects={
            "off": "A script may read and write what its user may: this layer is off.",
            "scratch-only": "A script sees its scratch, and the system's programs read-only; no packages.",
            "scratch-plus-ro": "A script sees its scratch, the system's programs and its packages, these read-only.",
        },
    )
    host_paths: Annotated[
        tuple[HostPath, ...],
        Field(max_length=MOST_HOST_PATHS),
        AfterValidator(once),
    ] = meant(
        (),
        "Host paths",
        "More files and directories of the machine that scripts may read. / stands for all of them.",
        effects={"none": "Scripts see no other files of the machine.", "some": "Scripts may read {value}."},
    )
    host_view: Annotated[tuple[HostView, ...], AfterValidator(once)] = meant(
        (),
        "Host views",
        "What else of the machine scripts see, for tools such as ps, df and ss: processes, disks, network.",
        effects={
            "none": "Scripts see nothing of the machine's processes, disks and network.",
            "some": "Scripts see the machine's {value}.",
        },
    )

    @property
    def shows_host(self) -> bool:
        """Whether a run is shown more of the host than what programs need."""
        return bool(self.host_paths or self.host_view)


def _readable_entry(text: str) -> str:
    """The entry as it was written, once it is known to be readable."""
    parse_entry(text)
    return text


Entry = Annotated[str, AfterValidator(_readable_entry)]
"""An entry of an allowlist, as it was written."""


class Network(Part):
    """Where a run may connect to. An empty allowlist denies all.

    `allow` keeps every entry as it was written; `entries`, `names`, `local` and `sockets` are what they mean.
    `deny_link_local_and_metadata` blocks link-local addresses and cloud metadata services first, whatever
    else is allowed. With `check_server_name`, a TLS client may not ask for another name at an address that was opened
    by its name.
    """

    mode: NetworkMode = meant(
        NetworkMode.ALLOWLIST,
        "Network",
        "Where a script may connect to.",
        effects={
            "deny": "Scripts connect to nothing, whatever the allowlist says.",
            "allowlist": "Scripts connect to what the allowlist names, and to nothing else.",
            "unrestricted": "Scripts connect to every address except the blocked ones.",
        },
    )
    allow: tuple[Entry, ...] = meant(
        (),
        "Allowlist",
        "What scripts may connect to: addresses, networks and names, with ports if not all of them: 10.0.0.0/8:5432, "
        "api.example.com:443, *.example.com:443, localhost:8080, unix:/run/app.sock.",
        effects={"none": "No destination is allowed.", "some": "Allowed: {value}."},
    )
    deny_link_local_and_metadata: StrictBool = meant(
        True,
        "Block metadata services",
        "Whether link-local addresses and cloud metadata services are blocked, even if the allowlist has them.",
        effects={
            "true": "Link-local addresses and metadata services are blocked.",
            "false": "Scripts may reach them if the allowlist permits it, and may get the machine's credentials there.",
        },
    )
    check_server_name: StrictBool = meant(
        True,
        "Check server names",
        "Whether a TLS client at an address that was allowed by its name may ask only for allowed names.",
        effects={
            "true": "A TLS connection that asks for another name is closed.",
            "false": "A TLS client may ask for any name at such an address.",
        },
    )

    @property
    def destinations(self) -> Iterator[Destination]:
        """The allowlist, read."""
        return (destination for text in self.allow for destination in parse_entry(text))

    @property
    def entries(self) -> tuple[AllowEntry, ...]:
        """The addresses and networks of the allowlist."""
        return tuple(each for each in self.destinations if isinstance(each, AllowEntry))

    @property
    def names(self) -> tuple[NameEntry, ...]:
        """The names of the allowlist."""
        return tuple(each for each in self.destinations if isinstance(each, NameEntry))

    @property
    def local(self) -> tuple[LocalEntry, ...]:
        """The services of the machine's own loopback in the allowlist."""
        return tuple(each for each in self.destinations if isinstance(each, LocalEntry))

    @property
    def sockets(self) -> tuple[SocketEntry, ...]:
        """The Unix sockets that a run gets: those of the allowlist, unless everything is denied."""
        if self.mode is NetworkMode.DENY:
            return ()
        return tuple(each for each in self.destinations if isinstance(each, SocketEntry))

    @property
    def ports(self) -> Iterator[PortRange | None]:
        """The ports of the allowlist's entries; None for one that has every port."""
        for each in self.destinations:
            match each:
                case AllowEntry(ports=ports):
                    yield ports
                case NameEntry(ports=None):
                    yield None
                case NameEntry(ports=tuple(ports)) | LocalEntry(ports=ports):
                    yield from ports

    @property
    def denies_everything(self) -> bool:
        """Whether no packet may leave: `deny`, or an allowlist that names nothing but sockets."""
        return self.mode is NetworkMode.DENY or (
            self.mode is NetworkMode.ALLOWLIST
            and all(isinstance(each, SocketEntry) for each in self.destinations)
        )


class Privilege(Part):
    """Whose rights a run has. `uid` and `gid` (65532 if left out) are used when the supervisor is root."""

    mode: PrivilegeMode = meant(
        PrivilegeMode.DROP_TO_UID,
        "Privileges",
        "Which user a script runs as, seen from outside of its sandbox.",
        effects={
            "inherit": "A script keeps the rights of the service that runs it, which may be root.",
            "drop-to-uid": "A script runs as a user without privileges.",
        },
    )
    uid: Annotated[StrictInt, Field(ge=1, le=LARGEST_ID)] | None = meant(
        None,
        "User",
        "The uid of runs, if the service that starts them is root. Empty: each run has its own.",
        effects={"none": "Each run has a uid of its own.", "some": "All runs have the uid {value}."},
    )
    gid: Annotated[StrictInt, Field(ge=1, le=LARGEST_ID)] | None = meant(
        None,
        "Group",
        "The gid of runs, if the service that starts them is root. Empty: each run has its own.",
        effects={"none": "Each run has a gid of its own.", "some": "All runs have the gid {value}."},
    )


class SandboxPolicy(Part):
    """The whole policy. `SandboxPolicy()` is the shipped default, which is secure.

    With `needs_required`, what does not say what it needs gets nothing beyond the plain sandbox.
    """

    enabled: StrictBool = meant(
        True,
        "Sandbox",
        "Whether scripts run in a sandbox at all.",
        effects={
            "true": "Every script runs in the sandbox.",
            "false": "Scripts run without a sandbox: all settings below are ignored.",
        },
    )
    on_unavailable: OnUnavailable = meant(
        OnUnavailable.FAIL,
        "If a layer is missing",
        "What happens to a run on a machine that cannot enforce the whole policy.",
        effects={
            "fail": "The run is refused.",
            "degrade": "The run starts without the missing layer, and its report says so.",
        },
    )
    resources: Resources = meant(Resources(), "Resources", "How much a run may use.")
    filesystem: Filesystem = meant(
        Filesystem(), "Files", "What a run sees of the machine's files, and of the machine."
    )
    network: Network = meant(Network(), "Network", "Where a run may connect to.")
    privilege: Privilege = meant(Privilege(), "Privileges", "Whose rights a run has.")
    needs_required: StrictBool = meant(
        False,
        "Require declared needs",
        "Whether checks and actions get only what they declare as needs.",
        effects={
            "true": "Without declared needs, a script has no network and no view of the machine.",
            "false": "Without declared needs, a script gets everything that the policy allows.",
        },
    )

    @classmethod
    def parse(cls, obj: object) -> Self:
        """Read a wire policy strictly; what is left out takes the shipped default.

        Raises:
            PolicyError: with every problem, each under its path, if a key is unknown or a value is not
                allowed.
        """
        try:
            return cls.model_validate(obj, by_alias=True, by_name=False)
        except ValidationError as error:
            raise PolicyError(tuple(problems_of(error, "policy"))) from error

    def to_wire(self) -> dict[str, Any]:
        """The JSON form. Optional ids that are not set are left out, and so is the default of what came later.

        Programs that are older than such a field would take it for a restriction that they do not know, and refuse.
        """
        wire = self.spelled_out()
        for name in ("hostPaths", "hostView"):
            if not wire["filesystem"][name]:
                del wire["filesystem"][name]
        if self.resources.max_state_bytes == MAX_STATE_BYTES:
            del wire["resources"]["maxStateBytes"]
        if self.network.check_server_name:
            del wire["network"]["checkServerName"]
        if not self.needs_required:
            del wire["needsRequired"]
        return wire

    def spelled_out(self) -> dict[str, Any]:
        """The JSON form with every field but ids that are not set, for people to read."""
        wire = self.model_dump(mode="json", by_alias=True)
        wire["privilege"] = {name: value for name, value in wire["privilege"].items() if value is not None}
        return wire


DEFAULT_POLICY = SandboxPolicy()
"""What holds while nobody has written a policy."""

FAIL_CLOSED_POLICY = SandboxPolicy(
    network=Network(mode=NetworkMode.DENY),
    filesystem=Filesystem(mode=FilesystemMode.SCRATCH_PLUS_RO),
    privilege=Privilege(mode=PrivilegeMode.DROP_TO_UID),
)
"""What holds while nobody can say what the policy is: no egress, default caps, dropped privilege."""


def problems_of(error: ValidationError, what: str) -> Iterator[str]:
    """Every fault with its path; `what` stands for the whole."""
    for problem in error.errors(include_url=False):
        path = ".".join(str(step) for step in problem["loc"]) or what
        if problem["type"] == "extra_forbidden":
            yield f"{path}: unknown key"
        elif problem["type"] in {"model_type", "model_attributes_type"}:
            yield f"{path}: must be a JSON object"
        else:
            yield f"{path}: {in_words(problem)}"
