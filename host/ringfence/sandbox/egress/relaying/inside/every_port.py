"""The packet filter by which connections to any port come to the relay (nft(8), TPROXY)."""

from __future__ import annotations

import ctypes
import os
import subprocess

from ..orders import Orders
from .whereabouts import DNS, OWN_V4, OWN_V6, OpeningError

_FILTER = """\
table inet ringfence {{
  chain prerouting {{
    type filter hook prerouting priority mangle; policy accept;
    meta l4proto udp meta mark {mark} accept
    {taken_v4}
    {taken_v6}
    ip daddr {{ 127.0.0.0/8, {own_v4} }} accept
    ip6 daddr {{ ::1, {own_v6} }} accept
    meta l4proto udp drop
    meta nfproto ipv4 meta l4proto tcp tproxy ip to 127.0.0.1:{port_v4} accept
    meta nfproto ipv6 meta l4proto tcp tproxy ip6 to [::1]:{port_v6} accept
  }}
}}
"""
_TAKEN = """
    {family} daddr {address} {udp} drop
    {family} daddr {address} {tcp} tproxy {family} to {listener} accept
"""
"""Ports of the host's own loopback, where everything else is the run's own."""


CAP_NET_ADMIN = 12
LINUX_CAPABILITY_VERSION_3 = 0x2008_0522
PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE = 47, 2


def _hand_down_capability() -> None:
    """Let a program that is started here change this network: whoever is not root there has it no more otherwise."""
    libc = ctypes.CDLL(None, use_errno=True)
    header = (ctypes.c_uint32 * 2)(LINUX_CAPABILITY_VERSION_3, 0)
    one = 1 << CAP_NET_ADMIN
    # Effective, permitted and inheritable, for the numbers below 32 and then for those above (capabilities(7)).
    if libc.capset(
        ctypes.byref(header), ctypes.byref((ctypes.c_uint32 * 6)(one, one, one, 0, 0, 0))
    ) or libc.prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, CAP_NET_ADMIN, 0, 0):
        number = ctypes.get_errno()
        raise OSError(number, f"a capability for nft: {os.strerror(number)}")


def take_every_port(orders: Orders, mark: int, ports: list[int]) -> None:
    """Have every TCP connection come to the listeners on these ports, and UDP be seen and not answered."""
    text = _FILTER.format(
        own_v4=OWN_V4,
        own_v6=OWN_V6,
        port_v4=ports[0],
        port_v6=ports[-1],
        mark=mark,
        taken_v4=_taken("ip", "127.0.0.1", f"127.0.0.1:{ports[0]}", orders, besides=DNS),
        taken_v6=_taken("ip6", "::1", f"[::1]:{ports[-1]}", orders),
    )
    _hand_down_capability()
    done = subprocess.run([orders.nft, "-f", "-"], input=text.encode(), capture_output=True, check=False)
    if done.returncode:
        raise OpeningError(" ".join(done.stderr.decode(errors="replace").split()) or "nft failed")


def _taken(family: str, address: str, listener: str, orders: Orders, *, besides: int | None = None) -> str:
    if not orders.local:
        return ""
    listed = ", ".join(f"{first}-{last}" for first, last in orders.local)
    tcp, udp = (
        f"{each} dport {{ {listed} }}" + (f" {each} dport != {besides}" if besides else "")
        for each in ("tcp", "udp")
    )
    return _TAKEN.format(family=family, address=address, listener=listener, tcp=tcp, udp=udp)
