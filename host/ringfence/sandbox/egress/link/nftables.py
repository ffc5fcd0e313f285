"""A ruleset as text for `nft`: one transaction after another, of which each fits into a message to the kernel.

The kernel takes a transaction as a single message, no larger than the socket's buffer. Who is not root on the host
cannot enlarge that beyond `net.core.wmem_default` (socket(7); 212,992 bytes on most systems): nft reports "Message too
long". So a long ruleset is loaded in parts. The first one makes the table, whose chains drop whatever no rule accepts,
and rules are added in their order: until the last part is loaded less gets out than the ruleset says, never more.
"""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import IPv6Address

from ringfence.sandbox.egress.link.ruleset import Rule, Ruleset, Verdict

TABLE = "ringfence"

LARGEST_TRANSACTION = 150_000
"""The most bytes of netlink messages, as `_size` estimates them, that go into one transaction."""

_RULE_BYTES, _PORT_BYTES = 1024, 48
_NETWORK_BYTES = {4: 48, 6: 80}
_PAIR_BYTES = {4: 64, 6: 96}
"""The most that a rule, and an element of its sets, is taken for."""

_REFUSAL = "goto refuse"
"""Where a packet is sent that does not get out: it is told to the script at once ("No route to host", "Permission
denied"; "Connection refused" for TCP over IPv6, where the kernel would make an ICMP error wait for a second).

The answer is made in the script's own namespace and goes over its loopback; nothing leaves. Should a kernel not
be able to send it, the packet is dropped all the same.
"""

# Input: answers, the errors that belong to them, and what a neighbour must ask before it can answer.
_TABLE = f"""\
table inet {TABLE} {{
  chain input {{
    type filter hook input priority filter; policy drop;
    iifname "lo" accept
    ct state established accept
    ct state related meta l4proto {{ icmp, ipv6-icmp }} accept
    ip6 hoplimit 255 icmpv6 type {{ nd-neighbor-solicit, nd-neighbor-advert }} accept
  }}
  chain forward {{
    type filter hook forward priority filter; policy drop;
  }}
  chain refuse {{
    meta nfproto ipv6 meta l4proto tcp reject with tcp reset
    reject with icmpx admin-prohibited
  }}
  chain output {{
    type filter hook output priority filter; policy drop;
  }}
}}
"""


def transactions(ruleset: Ruleset) -> tuple[str, ...]:
    """The texts to load, each by an `nft -f` of its own, in this order."""
    parts: list[list[str]] = [[_TABLE]]
    size = 0
    for each in ruleset.output:
        if size + _size(each) > LARGEST_TRANSACTION:
            parts.append([])
            size = 0
        parts[-1].append(f"add rule inet {TABLE} output {rule(each)}\n")
        size += _size(each)
    return tuple("".join(part) for part in parts)


def rule(each: Rule) -> str:
    """A rule as nftables writes it."""
    words = ['oifname "lo"'] if each.loopback else []
    if each.routed is not None:
        words.append("ip hdrlength > 5" if each.routed == 4 else "exthdr rt exists")
    if each.destinations:
        words.append(f"{_family(each.destinations[0].version)} daddr {_set(each.destinations)}")
    if each.patterns:
        mask = IPv6Address(each.patterns[0].mask)
        words.append(f"ip6 daddr & {mask} {_set(IPv6Address(pattern.value) for pattern in each.patterns)}")
    if each.neighbour_discovery:
        words.append("ip6 hoplimit 255 icmpv6 type { nd-neighbor-solicit, nd-neighbor-advert }")
    if each.ports or each.pairs:
        words.append("meta l4proto { tcp, udp }")
    if each.ports:
        words.append(f"th dport {_set(each.ports)}")
    if each.pairs:
        listed = (f"{network} . {ports}" for network, ports in each.pairs)
        words.append(f"{_family(each.pairs[0].network.version)} daddr . th dport {_set(listed)}")
    words.append("accept" if each.verdict is Verdict.ACCEPT else _REFUSAL)
    return " ".join(words)


def _family(version: int) -> str:
    return "ip" if version == 4 else "ip6"


def _set(elements: Iterable[object]) -> str:
    return f"{{ {', '.join(map(str, elements))} }}"


def _size(each: Rule) -> int:
    """How many bytes of a message a rule takes at most, with its sets."""
    return (
        _RULE_BYTES
        + sum(_NETWORK_BYTES[network.version] for network in each.destinations)
        + _NETWORK_BYTES[6] * len(each.patterns)
        + _PORT_BYTES * len(each.ports)
        + sum(_PAIR_BYTES[pair.network.version] for pair in each.pairs)
    )
