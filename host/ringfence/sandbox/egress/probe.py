"""Whether egress can be plumbed and filtered on this host, found out by doing it once."""

from __future__ import annotations

import asyncio
import contextlib
import os
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from ipaddress import IPv4Address, IPv6Address, ip_network
from pathlib import Path

from ringfence.sandbox.egress.link.attach import attach
from ringfence.sandbox.egress.link.macvlan import MacvlanSettings, MacvlanSettingsError
from ringfence.sandbox.egress.link.nftables import transactions
from ringfence.sandbox.egress.link.program import LinkFailed, find
from ringfence.sandbox.egress.link.ruleset import Listed, Pair, Rule, Ruleset, Verdict
from ringfence.sandbox.egress.plan import (
    EgressPlan,
    HostNetwork,
    Macvlan,
    Pasta,
    Plumbing,
    Relay,
    Slirp,
    egress_plan,
    resolvers_of,
)
from ringfence.sandbox.egress.relay import attach_relay
from ringfence.sandbox.egress.relaying.orders import NetworkOrder, Orders
from ringfence.sandbox.faults import Unavailable, is_passing, status_is_passing
from ringfence.sandbox.identities.identity import Identity
from ringfence.sandbox.identities.leases import Lease
from ringfence.sandbox.policy.addresses import AllowEntry, PortRange
from ringfence.sandbox.processes.attempts import ATTEMPT_TIMEOUT_S, SEARCH_PATH, attempt, become

MACVLAN_SETTING = "RINGFENCE_MACVLAN"
"""The environment variable with a host's addressing for macvlan links; see `MacvlanSettings.parse`."""

RESOLV_CONF = "/etc/resolv.conf"
OWN_IPV6 = "/proc/net/if_inet6"

_SAMPLE = Listed((AllowEntry.parse("203.0.113.1:80-81"), AllowEntry.parse("2001:db8::1")))
_IN_A_NETWORK_NAMESPACE = ("unshare", "--user", "--map-root-user", "--net", "--")


def _sample(plumbing: Plumbing) -> EgressPlan:
    return egress_plan(_SAMPLE, deny_link_local_and_metadata=True, plumbing=plumbing, host=HostNetwork())


def packet_filter(target: Identity | None) -> str:
    """The nft by which `target` can load a ruleset, with all that ours has in it, into a namespace of its own."""
    nft = _program("nft")
    _program("unshare")
    _load(nft, _sample(Slirp("")).ruleset, target)
    return nft


def lists_pairs(target: Identity | None) -> bool:
    """Whether `target` can load a ruleset with a set of networks together with ports, where it can load others."""
    pairs = (Pair(ip_network("203.0.113.0/24"), PortRange(80, 81)),)
    try:
        _load(_program("nft"), Ruleset((Rule(Verdict.ACCEPT, pairs=pairs),)), target)
    except Unavailable as unavailable:
        if unavailable.passing:
            raise
        return False
    return True


def _load(nft: str, ruleset: Ruleset, target: Identity | None) -> None:
    (text,) = transactions(ruleset)
    with _memory(text) as rules:
        attempt([*_IN_A_NETWORK_NAMESPACE, nft, "-f", f"/proc/self/fd/{rules}"], target, (rules,))


def needs_own_tun(target: Identity | None) -> bool:
    """Whether a userspace stack of `target` needs a node of its own for its tun device, not being let to the host's."""
    if not Path("/dev/net/tun").exists():
        raise Unavailable("/dev/net/tun does not exist (a container needs --device /dev/net/tun)")
    try:
        attempt(["/bin/sh", "-c", ": <>/dev/net/tun"], target)
    except Unavailable as unavailable:
        if unavailable.passing:
            raise
        if os.geteuid() != 0:
            uid = os.geteuid() if target is None else target.uid
            raise Unavailable(
                f"uid {uid} may not open /dev/net/tun ({unavailable}). Fix, as root: chmod 0666 /dev/net/tun"
            ) from unavailable
        return True
    return False


def stack(name: str, target: Identity | Lease | None, *, own_device: bool) -> str:
    """The program of a userspace stack that gives a network namespace of `target` a link."""
    path = _program(name)
    kind = {"slirp4netns": Slirp, "pasta": Pasta}[name]
    owner = target or Identity(os.geteuid(), os.getegid())
    plan = _sample(kind(path, own_device=own_device))
    identity = target.identity if isinstance(target, Lease) else target
    with _namespace(identity) as pid, ThreadPoolExecutor(1) as apart:
        # Apart, because the caller may be in a running loop.
        apart.submit(asyncio.run, _attach_once(plan, pid, owner)).result()
    return path


def relay(target: Identity | Lease | None) -> bool:
    """Whether a relay that serves a network namespace of `target` can pass echo requests on, if there can be one."""
    owner = target or Identity(os.geteuid(), os.getegid())
    identity = target.identity if isinstance(target, Lease) else target
    sample = Relay(Orders(networks=(NetworkOrder(4, int(IPv4Address("203.0.113.1")), 32, ((80, 81),)),)))
    with _namespace(identity) as pid:
        try:
            link = attach_relay(sample, pid, owner, bring_up=True)
        except LinkFailed as error:
            raise Unavailable(str(error), passing=error.passing) from error
        link.close()
    return link.pings


def macvlan() -> str:
    """The configured macvlan addressing, which this supervisor can use."""
    text = os.environ.get(MACVLAN_SETTING, "")
    if not text:
        raise Unavailable(f"no addressing is configured ({MACVLAN_SETTING})")
    try:
        settings = MacvlanSettings.parse(text)
    except MacvlanSettingsError as error:
        raise Unavailable(f"{MACVLAN_SETTING}: {error}") from error
    if os.geteuid() != 0:
        raise Unavailable("only a supervisor that is root can make interfaces on the host's network")
    plan = _sample(Macvlan(settings))
    with _namespace(None) as pid, ThreadPoolExecutor(1) as apart:
        apart.submit(asyncio.run, _attach_once(plan, pid, Identity(0, 0))).result()
    return text


def host_network() -> HostNetwork:
    """What this host's own network gives to links, but for what its packet filter can."""
    resolv_conf, own_ipv6 = _text(RESOLV_CONF), _text(OWN_IPV6)
    addresses = (IPv6Address(int(line.split()[0], 16)) for line in (own_ipv6 or "").splitlines())
    return HostNetwork(
        resolvers=resolvers_of(resolv_conf or ""),
        has_ipv6=any(_reaches_beyond_links(each) for each in addresses),
        speaks_ipv6=Path(OWN_IPV6).exists(),
        read=resolv_conf is not None and own_ipv6 is not None,
    )


def _text(path: str) -> str | None:
    """What a file holds, which is nothing if it is not there; None if it could not be read this time."""
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        return None if is_passing(error) else ""


def _reaches_beyond_links(address: IPv6Address) -> bool:
    return not (address.is_loopback or address.is_link_local)


def _program(name: str) -> str:
    try:
        return find(name)
    except LinkFailed as error:
        raise Unavailable(str(error)) from error


async def _attach_once(plan: EgressPlan, pid: int, owner: Identity | Lease) -> None:
    try:
        link = await attach(plan, pid, owner)
    except LinkFailed as error:
        raise Unavailable(str(error), passing=error.passing) from error
    await link.close()


@contextlib.contextmanager
def _namespace(target: Identity | None) -> Iterator[int]:
    """A process of `target` in a network namespace as the gate makes it; it ends with the context."""
    words, how = become(target)
    with subprocess.Popen(
        [*words, *_IN_A_NETWORK_NAMESPACE, "/bin/sh", "-c", "echo made && read -r _"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={"PATH": ":".join(SEARCH_PATH), "LC_ALL": "C"},
        cwd="/",
        **how,
    ) as process:
        if process.stdout is None or process.stdout.readline() != b"made\n":
            _, errors = process.communicate(timeout=ATTEMPT_TIMEOUT_S)
            said = errors.decode(errors="replace").strip()
            passing = is_passing(said) or status_is_passing(process.returncode)
            raise Unavailable(f"a network namespace cannot be made: {said}", passing=passing)
        try:
            yield process.pid
        finally:
            process.communicate(timeout=ATTEMPT_TIMEOUT_S)


@contextlib.contextmanager
def _memory(text: str) -> Iterator[int]:
    descriptor = os.memfd_create("ringfence-rules", os.MFD_CLOEXEC)
    try:
        os.write(descriptor, text.encode())
        yield descriptor
    finally:
        os.close(descriptor)
