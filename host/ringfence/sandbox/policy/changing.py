"""How a policy is changed: settings are put over another one, strictly; and what differs between two."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple

from ringfence.sandbox.policy.addresses import AllowEntry
from ringfence.sandbox.policy.destinations import LOCALHOST, LOOPBACK, parse_entry
from ringfence.sandbox.policy.embedded import plain_ipv4
from ringfence.sandbox.policy.model import MOST_ENTRIES, Network, PolicyError, SandboxPolicy


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
