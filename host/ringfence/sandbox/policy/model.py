"""What a script may do: the policy, its shipped default, and how policies are merged, read and compared.

A policy is an immutable value. It is written with `overlay` (strict: an unknown key is an error), stored
and sent as its wire form (camelCase JSON), and read from a possibly newer sender with `receive` (never
fails, never looser than sent).
"""

from __future__ import annotations

import enum
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, NamedTuple, Self

from pydantic import AfterValidator, ConfigDict, Field, StrictBool, StrictInt, ValidationError

from ringfence.sandbox.policy.addresses import AllowEntry, PortRange
from ringfence.sandbox.policy.destinations import (
    LOCALHOST,
    LOOPBACK,
    Destination,
    LocalEntry,
    NameEntry,
    SocketEntry,
    parse_entry,
)
from ringfence.sandbox.policy.embedded import plain_ipv4
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
    """Whose rights a script has, seen from outside of its sandbox."""

    INHERIT = "inherit"
    DROP_TO_UID = "drop-to-uid"


class Part(WireModel):
    """The base of every part of a policy: frozen, camelCase on the wire, no unknown keys."""

    model_config = ConfigDict(extra="forbid", validate_default=True)


def _limit(default: int, at_least: int) -> Any:
    return Field(default=default, ge=at_least, le=LARGEST_LIMIT)


class Resources(Part):
    """How much a run may use.

    `cpu_seconds`, `max_open_files` and `max_file_size_bytes` hold per process; `memory_bytes`,
    `max_processes`, `max_scratch_bytes` (all that is written to scratch and `/tmp`) and `max_output_bytes`
    (stdout and stderr together) hold for the run as a whole. Where a cgroup holds `memory_bytes`, what is in scratch
    counts as memory too. `max_state_bytes` is what a check with `keepState` may keep from one run to the next.
    """

    cpu_seconds: StrictInt = _limit(60, 1)
    memory_bytes: StrictInt = _limit(512 * MiB, 16 * MiB)
    max_open_files: StrictInt = _limit(1024, 16)
    max_processes: StrictInt = _limit(256, 1)
    max_output_bytes: StrictInt = _limit(5 * MiB, 0)
    max_file_size_bytes: StrictInt = _limit(256 * MiB, 0)
    max_scratch_bytes: StrictInt = _limit(256 * MiB, 64 * 1024)
    max_state_bytes: StrictInt = Field(default=MAX_STATE_BYTES, ge=4096, le=LARGEST_STATE)


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

    mode: FilesystemMode = FilesystemMode.SCRATCH_PLUS_RO
    host_paths: Annotated[
        tuple[HostPath, ...],
        Field(max_length=MOST_HOST_PATHS),
        AfterValidator(once),
    ] = ()
    host_view: Annotated[tuple[HostView, ...], AfterValidator(once)] = ()

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

    mode: NetworkMode = NetworkMode.ALLOWLIST
    allow: tuple[Entry, ...] = ()
    deny_link_local_and_metadata: StrictBool = True
    check_server_name: StrictBool = True

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

    mode: PrivilegeMode = PrivilegeMode.DROP_TO_UID
    uid: Annotated[StrictInt, Field(ge=1, le=LARGEST_ID)] | None = None
    gid: Annotated[StrictInt, Field(ge=1, le=LARGEST_ID)] | None = None


class SandboxPolicy(Part):
    """The whole policy. `SandboxPolicy()` is the shipped default, which is secure.

    With `needs_required`, what does not say what it needs gets nothing beyond the plain sandbox.
    """

    enabled: StrictBool = True
    on_unavailable: OnUnavailable = OnUnavailable.FAIL
    resources: Resources = Resources()
    filesystem: Filesystem = Filesystem()
    network: Network = Network()
    privilege: Privilege = Privilege()
    needs_required: StrictBool = False

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


def overlay(base: SandboxPolicy, partial: Mapping[str, object]) -> SandboxPolicy:
    """The policy `base` with the wire fields of `partial` put over it, however deep.

    Lists are replaced as a whole.

    A field that `partial` does not name keeps the value of `base`, so that nothing is loosened in silence.

    Raises:
        PolicyError: if `partial` names an unknown key or too many entries, or the result is not a policy.
    """
    if not isinstance(partial, Mapping):
        raise PolicyError(("the policy must be a JSON object",))
    network = partial.get("network")
    allow = network.get("allow") if isinstance(network, Mapping) else None
    # A policy that was stored before there was a limit may have more: those can stay, or become fewer.
    most = max(MOST_ENTRIES, len(base.network.allow))
    if isinstance(allow, list | tuple) and len(allow) > most:
        raise PolicyError(
            (
                f"network.allow: {len(allow):,} entries are too many; name networks, or at most {MOST_ENTRIES:,}",
            )
        )
    policy = SandboxPolicy.parse(_merged(base.to_wire(), partial))
    if problems := tuple(_useless(policy.network, base.network)):
        raise PolicyError(problems)
    # An address with a list of ports is as many entries to a filter as it has ranges.
    if (count := len(policy.network.entries)) > most:
        raise PolicyError(
            (
                f"network.allow: addresses with {count:,} ranges of ports are too many, {MOST_ENTRIES:,} can be",
            )
        )
    return policy


def _useless(new: Network, old: Network) -> Iterator[str]:
    """What is wrong with entries that were not there before and name nothing that a run could ever reach."""
    known = set(old.allow)
    for place, text in enumerate(new.allow):
        destination = parse_entry(text)[0]
        if text in known or not isinstance(destination, AllowEntry):
            continue
        network = destination.network
        if any(network.version == of.version and network.subnet_of(of) for of in LOOPBACK):  # type: ignore[arg-type]
            yield (
                f"network.allow.{place}: {text!r} is loopback, of which a run has its own; for a service of the "
                f"machine itself, write {LOCALHOST} and its port: {LOCALHOST}:{destination.ports or 8080}"
            )
        elif (found := plain_ipv4(network)) is not None:
            form, ipv4 = found
            plain = ipv4.network_address if ipv4.prefixlen == ipv4.max_prefixlen else ipv4
            yield (
                f"network.allow.{place}: {text!r} is {form.name} ({form.source}); "
                f"no packet has such a destination: write {plain}"
            )


def _merged(base: Mapping[str, object], partial: Mapping[str, object]) -> dict[str, object]:
    result = dict(base)
    for name, value in partial.items():
        under = result.get(name)
        both = isinstance(under, Mapping) and isinstance(value, Mapping)
        result[name] = _merged(under, value) if both else value  # type: ignore[arg-type]
    return result


def problems_of(error: ValidationError, what: str) -> Iterator[str]:
    """Every fault with its path; `what` stands for the whole."""
    for problem in error.errors(include_url=False):
        path = ".".join(str(step) for step in problem["loc"]) or what
        if problem["type"] == "extra_forbidden":
            yield f"{path}: unknown key"
        elif problem["type"] in {"model_type", "model_attributes_type"}:
            yield f"{path}: must be a JSON object"
        else:
            yield f"{path}: {problem['msg'].removeprefix('Value error, ')}"


class PolicyChange(NamedTuple):
    """One field that differs between two policies; `path` is dotted, in wire names."""

    path: str
    before: object
    after: object


def changes(old: SandboxPolicy, new: SandboxPolicy) -> tuple[PolicyChange, ...]:
    """What differs from `old` to `new`, in the order of the fields."""
    before, after = dict(_leaves(old.spelled_out())), dict(_leaves(new.spelled_out()))
    paths = list(before) + [path for path in after if path not in before]
    return tuple(
        PolicyChange(path, before.get(path), after.get(path))
        for path in paths
        if before.get(path) != after.get(path)
    )


def _leaves(wire: Mapping[str, object], prefix: str = "") -> Iterator[tuple[str, object]]:
    for name, value in wire.items():
        if isinstance(value, Mapping):
            yield from _leaves(value, f"{prefix}{name}.")
        else:
            yield prefix + name, value
