"""The way into a run's network namespace: the filter is loaded, or the wrapper is never reached.

It is what is prepared on the wrapper's stage (see `wrappers.stage`): whoever sees the wrapper run (it tells on its info
descriptor) knows that the ruleset is loaded, and there is still no link.
"""

from __future__ import annotations

import shlex
from dataclasses import dataclass

from ringfence.sandbox.egress.link.nftables import transactions
from ringfence.sandbox.egress.link.ruleset import Ruleset
from ringfence.sandbox.numbers import RULES
from ringfence.sandbox.wrappers.stage import Preparation

# Addresses of the link are used at once: there is nobody else on it who could have the same, and waiting for
# duplicate address detection would cost a second. In a kernel without IPv6 there is nothing to set.
_PREPARE = (
    "for wait in accept_dad dad_transmits; do "
    "[ ! -w /proc/sys/net/ipv6/conf/default/$wait ] || echo 0 >/proc/sys/net/ipv6/conf/default/$wait; "
    "done; "
)
_LOAD = f'"$nft" -f /proc/self/fd/{RULES}'
# The texts are read before nft is started, so that what cannot be read is not taken for an empty one.
_LOAD_PARTS = (
    "part=0; while [ $part -lt {parts} ]; do "
    f"rules=$(dd if=/proc/self/fd/{RULES} bs={{block}} skip=$part count=1 2>/dev/null) && "
    'printf "%s\\n" "$rules" | "$nft" -f - || exit; '
    "part=$((part + 1)); done"
)


@dataclass(frozen=True, slots=True)
class Rules:
    """A ruleset's transactions in one file: `parts` of them, each filled up with line ends to `block` bytes."""

    data: bytes
    parts: int
    block: int

    @classmethod
    def of(cls, ruleset: Ruleset) -> Rules:
        """What the gate loads for a ruleset."""
        texts = [text.encode() for text in transactions(ruleset)]
        block = max(map(len, texts))
        return cls(b"".join(text.ljust(block, b"\n") for text in texts), len(texts), block)


def gate(nft: str, rules: Rules) -> Preparation:
    """Load `rules`, which are on descriptor `RULES`, into a network namespace of the run's own."""
    words = f"nft={shlex.quote(nft)}; {_PREPARE}{load(rules)} && exec {RULES}<&-"
    return Preparation(f"{{ {words}; }}", network=True)


def load(rules: Rules) -> str:
    """The shell's words that load `rules`, with the path of nft in `$nft`."""
    return _LOAD if rules.parts == 1 else _LOAD_PARTS.format(parts=rules.parts, block=rules.block)
