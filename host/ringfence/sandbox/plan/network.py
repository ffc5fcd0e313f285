"""The layer of the network: what a run may reach, and by which link."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from ringfence.sandbox.capabilities.found import (
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
    Slirp,
    egress_plan,
)
from ringfence.sandbox.egress.ruleset import Everything, Listed
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
from ringfence.sandbox.report import Layer

MOST_NOTES = 10
"""Of how many entries of the allowlist a report tells one and the same thing."""


def network(
    capabilities: Capabilities,
    policy: SandboxPolicy,
    wrapped: bool,
    confinement: Confinement | None,
    findings: Findings,
) -> tuple[Reach, EgressPlan | None]:
    network = policy.network
    if not policy.enabled:
        return Reach.HOST, None
    isolated = wrapped and capabilities.network_namespaces.available
    listed = network.mode is NetworkMode.ALLOWLIST
    if isolated and listed and (network.names or network.local):
        findings.lacks(Layer.NETWORK, "names in network.allow cannot be enforced here yet")
    if isolated and (network.denies_everything or (listed and not network.entries)):
        findings.holds(Layer.NETWORK, network="a network namespace of its own with only its own loopback")
        return Reach.NOTHING, None
    if confinement is not None and not confinement.sockets:
        findings.holds(Layer.NETWORK, network=landlock.NO_SOCKETS)
        return Reach.HOST, None
    plumbing = _plumbing(capabilities) if isolated else _why_not_isolated(capabilities, wrapped)
    if isinstance(plumbing, str):
        if _asks_nothing(network):
            findings.note(Layer.NETWORK, f"the script is in the host's own network ({plumbing})")
        else:
            partly = (
                landlock.tcp_only(confinement.ports, confinement.abi) if confinement is not None else None
            )
            findings.lacks(Layer.NETWORK, _not_enforced(partly, plumbing))
        return Reach.HOST, None
    egress = egress_plan(
        Listed(network.entries) if network.mode is NetworkMode.ALLOWLIST else Everything(),
        deny_link_local_and_metadata=network.deny_link_local_and_metadata,
        plumbing=plumbing,
        host=capabilities.host_network,
    )
    findings.holds(Layer.NETWORK, network=_how(network, egress))
    for text in _first([f"the entry {entry}" for entry in egress.shadowed]):
        findings.note(Layer.NETWORK, text)
    for text in _first(
        [
            f"the entry {entry} cannot be reached: this host's kernel has no IPv6"
            for entry in egress.without_ipv6
        ]
    ):
        findings.note(Layer.NETWORK, text)
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
    return Reach.FILTERED, egress


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


def _how(network: Network, egress: EgressPlan) -> str:
    reach = f"{len(network.allow)} listed" if network.mode is NetworkMode.ALLOWLIST else "everything else"
    blocked = "link-local, metadata and " if network.deny_link_local_and_metadata else ""
    return (
        f"{egress.plumbing.name}, behind an nftables filter in the run's own network namespace: {blocked}"
        f"host loopback blocked, {reach} allowed, the rest dropped"
    )


def _asks_nothing(network: Network) -> bool:
    return network.mode is NetworkMode.UNRESTRICTED and not network.deny_link_local_and_metadata
