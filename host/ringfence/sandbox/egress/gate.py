"""The way into a run's network namespace: the filter is loaded, or the wrapper is never reached.

The arguments made here are run as the sandbox's uid. `unshare` makes the outer user namespace and with it the
network namespace; the shell loads the ruleset and *becomes* the wrapper. Whoever sees the wrapper run (it tells
on its info descriptor) knows that the ruleset is loaded, and there is still no link.
"""

from __future__ import annotations

from collections.abc import Sequence

RULES, WRAPPER = 6, 7
"""The numbers under which the gate must get the ruleset and the wrapper's program; single digits, since a
POSIX shell need not know others."""

# Addresses of the link are used at once: there is nobody else on it who could have the same, and waiting for
# duplicate address detection would cost a second. In a kernel without IPv6 there is nothing to set.
_SCRIPT = (
    "for wait in accept_dad dad_transmits; do "
    "[ ! -w /proc/sys/net/ipv6/conf/default/$wait ] || echo 0 >/proc/sys/net/ipv6/conf/default/$wait; "
    "done; "
    f'"$1" -f /proc/self/fd/{RULES} && exec {RULES}<&- && shift && exec /proc/self/fd/{WRAPPER} "$@"'
)


def gate(nft: str, wrapper_arguments: Sequence[str]) -> list[str]:
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
        _SCRIPT,
        "ringfence-gate",
        nft,
        "--sync-fd",
        str(WRAPPER),
        *wrapper_arguments,
    ]
