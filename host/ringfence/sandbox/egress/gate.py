"""The way into a run's network namespace: the filter is loaded, or the wrapper is never reached.

The arguments made here are run as the sandbox's uid. `unshare` makes the outer user namespace and with it the
network namespace; the shell loads the ruleset and *becomes* the wrapper. Whoever sees the wrapper run (it tells
on its info descriptor) knows that the ruleset is loaded, and there is still no link.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ringfence.sandbox.nftables import transactions
from ringfence.sandbox.ruleset import Ruleset

RULES, WRAPPER = 6, 7
"""The numbers under which the gate must get the ruleset and the wrapper's program; single digits, since a
POSIX shell need not know others."""

# Addresses of the link are used at once: there is nobody else on it who could have the same, and waiting for
# duplicate address detection would cost a second. In a kernel without IPv6 there is nothing to set.
_PREPARE = (
    "for wait in accept_dad dad_transmits; do "
    "[ ! -w /proc/sys/net/ipv6/conf/default/$wait ] || echo 0 >/proc/sys/net/ipv6/conf/default/$wait; "
    "done; "
)
_LOAD = f'"$1" -f /proc/self/fd/{RULES}'
# The texts are read before nft is started, so that what cannot be read is not taken for an empty one.
_LOAD_PARTS = (
    "part=0; while [ $part -lt {parts} ]; do "
    f"rules=$(dd if=/proc/self/fd/{RULES} bs={{block}} skip=$part count=1 2>/dev/null) && "
    'printf "%s\\n" "$rules" | "$1" -f - || exit; '
    "part=$((part + 1)); done"
)
_BECOME = f' && exec {RULES}<&- && shift && exec /proc/self/fd/{WRAPPER} "$@"'


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


def gate(nft: str, rules: Rules, wrapper_arguments: Sequence[str]) -> list[str]:
    """The arguments for `unshare` (util-linux) with which the wrapper starts behind a loaded filter.

    `--sync-fd` makes the wrapper close its own program's descriptor before the script runs.
    """
    return [
        "unshare",
        "--user",
        "--map-root-user",
        "--net",
        "--",
        "/bin/sh",
        "-c",
        _PREPARE + load(rules) + _BECOME,
        "ringfence-gate",
        nft,
        "--sync-fd",
        str(WRAPPER),
        *wrapper_arguments,
    ]


def load(rules: Rules) -> str:
    """The shell's words that load `rules`, with the path of nft as the first argument."""
    return _LOAD if rules.parts == 1 else _LOAD_PARTS.format(parts=rules.parts, block=rules.block)
