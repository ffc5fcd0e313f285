"""A link by a userspace stack: a program that reads what the script sends and makes the host's sockets of it.

The stack runs as the sandbox's uid and not as the supervisor. It enters the run's namespaces only to make the tap
device there, and works from outside of them, in a sandbox that it makes for itself (an almost empty root, no
capabilities but that of low ports, a seccomp filter). It ends with the run, with the supervisor, or with the
spawner that started it.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import AsyncIterator, Callable
from pathlib import Path

from ringfence.sandbox.egress.link import tun_main
from ringfence.sandbox.egress.link.program import EXIT, INTERFACE, READY, Program, find, ready_file
from ringfence.sandbox.egress.plan import GATEWAY, MTU, RESOLVER, SCRIPT, SLIRP_IPV6, Pasta, Slirp
from ringfence.sandbox.identities.identity import Identity
from ringfence.sandbox.identities.leases import Lease
from ringfence.sandbox.processes.spawner import ready_spawner_for

LIMITS = {"RLIMIT_DATA": 256 * 1024**2, "RLIMIT_NOFILE": 1024}
"""What a stack may have: it keeps in its own memory what a script sends and nobody takes, for each connection."""


async def attach_stack(plumbing: Slirp | Pasta, pid: int, owner: Identity | Lease) -> Program:
    """Start the stack for the network namespace of `pid`, as its owner, and wait until the link is up.

    Raises:
        LinkFailed: if it does not come up.
    """
    start = await _starter(plumbing, owner)
    if isinstance(plumbing, Pasta):
        with ready_file(owner.identity if isinstance(owner, Lease) else owner) as file:
            return await _up(start(plumbing.program, pasta(plumbing, pid, file.path), ready_file=file))
    stack = await _up(start(plumbing.program, slirp4netns(plumbing, pid)))
    if plumbing.ipv6:
        async with _closed_on_failure(stack):
            await _configure_ipv6(start, pid)
    return stack


async def _up(stack: Program) -> Program:
    """The stack, once it says that its link is up."""
    async with _closed_on_failure(stack):
        await stack.ready()
    return stack


@contextlib.asynccontextmanager
async def _closed_on_failure(stack: Program) -> AsyncIterator[None]:
    try:
        yield
    except BaseException:
        await stack.close()
        raise


async def _starter(plumbing: Slirp | Pasta, owner: Identity | Lease) -> Callable[..., Program]:
    """What starts programs as that owner, with a tun device of their own if they need one.

    Not what starts sandboxes: a stack is told of a run by its pid, which must mean to it what it means to us.
    """
    through = Path(tun_main.__file__) if plumbing.own_device else None
    if isinstance(owner, Lease):
        spawner = await ready_spawner_for(owner.spawner, through, plain=True, leaving=True)
        return functools.partial(Program, spawner, lease=owner, limits=LIMITS)
    return functools.partial(Program, await ready_spawner_for(owner, through, plain=True), limits=LIMITS)


def slirp4netns(plumbing: Slirp, pid: int) -> list[str]:
    """The arguments of slirp4netns(1)."""
    return [
        "slirp4netns",
        "--configure",
        f"--mtu={MTU}",
        f"--cidr={plumbing.network}",
        "--disable-host-loopback",
        *([] if plumbing.dns else ["--disable-dns"]),
        *(["--enable-ipv6"] if plumbing.ipv6 else []),
        "--enable-sandbox",
        "--enable-seccomp",
        f"--ready-fd={READY}",
        # Held open by the supervisor alone: however that ends, the stack ends with it.
        f"--exit-fd={EXIT}",
        str(pid),
        INTERFACE,
    ]


def pasta(plumbing: Pasta, pid: int, ready_file: str) -> list[str]:
    """The arguments of pasta(1), which goes into its own sandbox without being asked.

    Its pid file is written when the link is up, and so says that it is ready; it opens that by a path before it makes
    its sandbox, and newer ones cannot look into their own `/proc/self/fd`. Left to itself it would forward
    loopback ports both ways and take the gateway for the host.
    """
    network = plumbing.network
    return [
        "pasta",
        "--config-net",
        "--foreground",
        "--quiet",
        *("--pid", ready_file),
        *("--ns-ifname", INTERFACE),
        *("--mtu", str(MTU)),
        *("--address", str(network[SCRIPT]), "--netmask", str(network.prefixlen)),
        *("--gateway", str(network[GATEWAY])),
        *(["--dns-forward", str(network[RESOLVER])] if plumbing.dns else ["--dns", "none"]),
        *(
            ["--address", str(SLIRP_IPV6[SCRIPT]), "--gateway", str(SLIRP_IPV6[GATEWAY])]
            if plumbing.ipv6
            else ["--ipv4-only"]
        ),
        "--no-map-gw",
        *("--tcp-ports", "none", "--udp-ports", "none", "--tcp-ns", "none", "--udp-ns", "none"),
        *("--no-dhcp", "--no-dhcpv6", "--no-ra"),
        str(pid),
    ]


async def _configure_ipv6(start: Callable[..., Program], pid: int) -> None:
    """Give the link its IPv6 address and route now; slirp4netns leaves it to advertisements, seconds later."""
    own, gateway = SLIRP_IPV6[SCRIPT], SLIRP_IPV6[GATEWAY]
    commands = (
        f"address add {own}/{SLIRP_IPV6.prefixlen} dev {INTERFACE} nodad\n"
        f"route add default via {gateway} dev {INTERFACE}\n"
    )
    nsenter, ip = find("nsenter"), find("ip")
    inside = ["nsenter", f"--target={pid}", "--user", "--net", "--preserve-credentials", "--", ip]
    await start(nsenter, [*inside, "-6", "-batch", "-"], commands.encode()).succeed()
