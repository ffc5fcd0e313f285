"""The layer of the network: what a run may reach, and by which link."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from ringfence.sandbox.capabilities.found import (
    EgressRelay,
    MacvlanAddresses,
    Missing,
    PastaProgram,
    SlirpProgram,
    TunDevice,
)
from ringfence.sandbox.capabilities.model import Capabilities
from ringfence.sandbox.egress import (
    EgressPlan,
    Macvlan,
    Pasta,
    Plumbing,
    Relay,
    Slirp,
    egress_plan,
)
from ringfence.sandbox.egress.link.ruleset import Everything, Listed
from ringfence.sandbox.egress.ordering import orders_of, takes_every_port
from ringfence.sandbox.egress.plan import DNS, MOST_NAMESERVERS
from ringfence.sandbox.egress.relaying.inside.whereabouts import RESOLVER
from ringfence.sandbox.filters import landlock
from ringfence.sandbox.filters.landlock import Confinement
from ringfence.sandbox.plan.findings import Findings
from ringfence.sandbox.plan.model import Reach
from ringfence.sandbox.plan.wrapping import why_not_wrapped
from ringfence.sandbox.policy import (
    Network,
    NetworkMode,
    SandboxPolicy,
)
from ringfence.sandbox.policy.addresses import AllowEntry
from ringfence.sandbox.policy.blocked import Shadowed, blocked_ranges, shadowed
from ringfence.sandbox.report import Layer

_NO_LINK = "a network namespace of its own with only its own loopback"

MOST_NOTES = 10
"""Of how many entries of the allowlist a report tells one and the same thing."""


def network(
    capabilities: Capabilities,
    policy: SandboxPolicy,
    wrapped: bool,
    confinement: Confinement | None,
    findings: Findings,
) -> tuple[Reach, EgressPlan | None, Relay | None]:
    network = policy.network
    if not policy.enabled:
        return Reach.HOST, None, None
    isolated = wrapped and capabilities.network_namespaces.available
    listed = network.mode is NetworkMode.ALLOWLIST
    named = listed and bool(network.names or network.local)
    if isolated and (network.denies_everything or (listed and not named and not network.entries)):
        findings.holds(Layer.NETWORK, network=_NO_LINK)
        return Reach.NOTHING, None, None
    if confinement is not None and not confinement.sockets:
        findings.holds(Layer.NETWORK, network=landlock.NO_SOCKETS)
        return Reach.HOST, None, None
    if isolated:
        relay = _relay(capabilities, network)
        if isinstance(relay, Relay) and (named or isinstance(capabilities.macvlan, Missing)):
            return _relayed(capabilities, network, relay, findings)
        if named:
            findings.lacks(Layer.NETWORK, f"this machine cannot reach names or local services: {relay}")
        elif network.local:
            findings.note(Layer.NETWORK, f"local services cannot be reached on this machine: {relay}")
        if listed and not network.entries:
            return Reach.NOTHING, None, None
    plumbing = _plumbing(capabilities) if isolated else _why_not_isolated(capabilities, wrapped)
    if isinstance(plumbing, str):
        if _asks_nothing(network):
            findings.note(Layer.NETWORK, f"the script is in the host's own network ({plumbing})")
        else:
            partly = (
                landlock.tcp_only(confinement.ports, confinement.abi) if confinement is not None else None
            )
            findings.lacks(Layer.NETWORK, _not_enforced(partly, plumbing))
        return Reach.HOST, None, None
    egress = egress_plan(
        Listed(network.entries) if network.mode is NetworkMode.ALLOWLIST else Everything(),
        deny_link_local_and_metadata=network.deny_link_local_and_metadata,
        plumbing=plumbing,
        host=capabilities.host_network,
    )
    if not named:
        # Else a part of what the policy wants is severed.
        findings.holds(Layer.NETWORK, network=_how(network, egress))
    _tell(findings, egress.shadowed, egress.without_ipv6)
    if not egress.nameservers:
        findings.note(
            Layer.NETWORK,
            "names cannot be resolved: "
            + (
                "the allowlist has no resolver of the host (its address, port 53)"
                if network.mode is NetworkMode.ALLOWLIST
                else "the host has no resolver that may be reached"
            ),
        )
    return Reach.FILTERED, egress, None


def _relay(capabilities: Capabilities, network: Network) -> Relay | str:
    """The relay of a run's allowlist, or why this host has none that can serve it."""
    if isinstance(capabilities.relay, Missing):
        return capabilities.relay.reason
    if not takes_every_port(network):
        return Relay(orders_of(network), _nameservers(capabilities, network))
    if isinstance(capabilities.nft, Missing):
        return (
            f"entries without ports, or with very many, need nft (name the ports): {capabilities.nft.reason}"
        )
    return Relay(orders_of(network, nft=capabilities.nft.path), _nameservers(capabilities, network))


def _nameservers(capabilities: Capabilities, network: Network) -> tuple[str, ...]:
    """Whom a run asks for names: the relay for those that are listed, and the host's resolvers that are."""
    blocked = [each.where for each in blocked_ranges(network.deny_link_local_and_metadata)]
    listed = [
        str(each)
        for each in capabilities.host_network.resolvers
        if any(entry.covers(each, DNS) for entry in network.entries)
        and not any(each in where for where in blocked)
    ]
    named = network.names or network.mode is NetworkMode.UNRESTRICTED
    return (*([RESOLVER] if named else []), *listed)[:MOST_NAMESERVERS]


def _relayed(
    capabilities: Capabilities, network: Network, relay: Relay, findings: Findings
) -> tuple[Reach, EgressPlan | None, Relay | None]:
    findings.holds(
        Layer.NETWORK,
        network="a network namespace without a link, and a relay outside of it that makes the run's connections: "
        + _which(network),
    )
    speaks_ipv6 = capabilities.host_network.speaks_ipv6
    unreachable = () if speaks_ipv6 else tuple(e for e in network.entries if e.network.version == 6)
    blocked = shadowed(network.entries, deny_link_local_and_metadata=network.deny_link_local_and_metadata)
    _tell(findings, blocked, unreachable)
    if not relay.nameservers:
        findings.note(
            Layer.NETWORK,
            "names cannot be resolved: network.allow has no name, and has no resolver of the host",
        )
    if isinstance(capabilities.relay, EgressRelay) and not capabilities.relay.pings:
        findings.note(
            Layer.NETWORK,
            "ping cannot work here: this host does not let its users send echo requests (net.ipv4.ping_group_range)",
        )
    return Reach.RELAYED, None, relay


def _tell(findings: Findings, blocked: Sequence[Shadowed], unreachable: Sequence[AllowEntry]) -> None:
    """Tell of the entries that have no effect."""
    for text in _first([f"the entry {each}" for each in blocked]):
        findings.note(Layer.NETWORK, text)
    for text in _first(
        [f"the entry {each} cannot be reached: this host's kernel has no IPv6" for each in unreachable]
    ):
        findings.note(Layer.NETWORK, text)


def _first(texts: Sequence[str]) -> Iterator[str]:
    """What is told of many entries: of each while they are few, and then how many more there are."""
    yield from texts[:MOST_NOTES]
    if len(texts) > MOST_NOTES:
        yield f"the same holds for {len(texts) - MOST_NOTES:,} more entries"


def _not_enforced(partly: str | None, why: str) -> str:
    if partly is None:
        return f"this machine cannot enforce the network policy: {why}"
    return f"this machine can enforce the network policy only in part: {partly} ({why})"


def _why_not_isolated(capabilities: Capabilities, wrapped: bool) -> str:
    namespaces = capabilities.network_namespaces
    if wrapped and isinstance(namespaces, Missing):
        return f"network namespaces: {namespaces.reason}"
    return why_not_wrapped(capabilities)


def _plumbing(capabilities: Capabilities) -> Plumbing | str:
    """The link that runs of this host get, or why there is none. Addresses that an admin configured come first."""
    if isinstance(capabilities.nft, Missing):
        return f"nft is needed as the filter: {capabilities.nft.reason}"
    if isinstance(capabilities.macvlan, MacvlanAddresses):
        return Macvlan(capabilities.macvlan.settings)
    own_device = isinstance(capabilities.tun, TunDevice) and capabilities.tun.own_node
    if isinstance(capabilities.slirp4netns, SlirpProgram):
        return Slirp(capabilities.slirp4netns.path, own_device=own_device)
    if isinstance(capabilities.pasta, PastaProgram):
        return Pasta(capabilities.pasta.path, own_device=own_device)
    reasons = (("slirp4netns", capabilities.slirp4netns), ("pasta", capabilities.pasta))
    return "no program gives runs a filtered link: " + "; ".join(
        f"{name}: {missing.reason}" for name, missing in reasons
    )


def _which(network: Network) -> str:
    """What is blocked, what is allowed, and what becomes of the rest, in words."""
    reach = f"{len(network.allow)} listed" if network.mode is NetworkMode.ALLOWLIST else "everything else"
    blocked = "link-local, metadata and " if network.deny_link_local_and_metadata else ""
    return f"{blocked}host loopback blocked, {reach} allowed, the rest refused"


def _how(network: Network, egress: EgressPlan) -> str:
    return f"{egress.plumbing.name}, behind an nftables filter in the run's own network namespace: {_which(network)}"


def _asks_nothing(network: Network) -> bool:
    return network.mode is NetworkMode.UNRESTRICTED and not network.deny_link_local_and_metadata
