"""How a policy is read from a sender that may be newer than this program: never looser than it was meant."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ringfence.sandbox.policy.addresses import AllowEntryError
from ringfence.sandbox.policy.destinations import parse_entry
from ringfence.sandbox.policy.model import (
    FAIL_CLOSED_POLICY,
    FilesystemMode,
    MiB,
    NetworkMode,
    OnUnavailable,
    PolicyError,
    PrivilegeMode,
    Resources,
    SandboxPolicy,
)


@dataclass(frozen=True, slots=True)
class ReceivedPolicy:
    """A policy as this program understands it, and what it could not understand (dotted paths)."""

    policy: SandboxPolicy
    not_understood: tuple[str, ...] = ()


_LEAST = Resources(
    cpu_seconds=1,
    memory_bytes=16 * MiB,
    max_open_files=16,
    max_processes=1,
    max_output_bytes=0,
    max_file_size_bytes=0,
    max_scratch_bytes=64 * 1024,
    max_state_bytes=4096,
)
"""The least that each limit may be."""

_STRICTEST: Mapping[str, object] = {
    **{f"resources.{name}": least for name, least in _LEAST.model_dump(by_alias=True).items()},
    "enabled": True,
    "onUnavailable": OnUnavailable.FAIL.value,
    "filesystem.mode": FilesystemMode.SCRATCH_ONLY.value,
    "network.mode": NetworkMode.DENY.value,
    "network.allow": [],
    "network.denyLinkLocalAndMetadata": True,
    "network.checkServerName": True,
    "needsRequired": True,
    "privilege.mode": PrivilegeMode.DROP_TO_UID.value,
}


_LIMITS = frozenset(("resources", *(path for path in _STRICTEST if path.startswith("resources."))))
"""What makes a policy unusable if it is not understood."""


def receive(obj: object) -> ReceivedPolicy:
    """Read a policy from a sender that may be newer than this program; never raises.

    A key or value that is not understood is named, and the strictest known value stands in for it, so that the result
    is never looser than what was sent. With a limit that is not understood no run takes place (`onUnavailable` is
    `fail`): what was meant may be less than the least that is known here. A known field that was not sent, as by an
    older sender, takes the fail-closed profile's value and is no misunderstanding.
    """
    if not isinstance(obj, Mapping):
        return ReceivedPolicy(FAIL_CLOSED_POLICY, ("policy",))
    not_understood: list[str] = []
    wire = _understood(obj, FAIL_CLOSED_POLICY.model_dump(mode="json", by_alias=True), "", not_understood)
    if any(path in _LIMITS for path in not_understood):
        wire["onUnavailable"] = OnUnavailable.FAIL.value
    return ReceivedPolicy(SandboxPolicy.parse(wire), tuple(not_understood))


def _understood(
    sent: Mapping[object, object], known: Mapping[str, object], prefix: str, not_understood: list[str]
) -> dict[str, object]:
    """The part of `sent` that fits the shape of `known`, which also gives the values of what was not sent."""
    not_understood.extend(f"{prefix}{name}" for name in sent if name not in known)
    result: dict[str, object] = {}
    for name, fallback in known.items():
        path = prefix + name
        if name not in sent:
            result[name] = fallback
            continue
        value = sent[name]
        if isinstance(fallback, Mapping):
            if not isinstance(value, Mapping):
                not_understood.append(path)
                value = {step: _STRICTEST.get(f"{path}.{step}", inner) for step, inner in fallback.items()}
            result[name] = _understood(value, fallback, f"{path}.", not_understood)
        elif path == "network.allow" and isinstance(value, list | tuple):
            readable = [_is_entry(entry) for entry in value]
            result[name] = [entry for entry, is_entry in zip(value, readable, strict=True) if is_entry]
            not_understood.extend(f"{path}[{i}]" for i, is_entry in enumerate(readable) if not is_entry)
        elif _fits(path, value):
            result[name] = value
        else:
            not_understood.append(path)
            result[name] = _STRICTEST.get(path, fallback)
    return result


def _is_entry(value: object) -> bool:
    """Whether `value` is an entry of the allowlist."""
    try:
        parse_entry(value)  # type: ignore[arg-type]  # what is no string is refused too
    except AllowEntryError:
        return False
    return True


def _fits(path: str, value: object) -> bool:
    """Whether `value` alone is allowed at `path`."""
    wire: object = value
    for step in reversed(path.split(".")):
        wire = {step: wire}
    try:
        SandboxPolicy.parse(wire)
    except PolicyError:
        return False
    return True
