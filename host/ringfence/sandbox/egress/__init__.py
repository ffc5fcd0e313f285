"""What a run can connect to, by a network namespace of its own, and by what leads out of it.

Where this machine can have one, that is a relay (see `relay`): the namespace has no link, and a process outside of it
makes the connections. Elsewhere, and with addresses of the host's network (macvlan), it is a link behind a packet
filter. Such a run is made in four steps:

1. *Gate* (`gate`): as the sandbox's uid, make a user and a network namespace, load the ruleset in them, and
   become the wrapper. It is one process, so that the wrapper cannot be reached without the ruleset.
2. The wrapper makes its *nested* user namespace. Neither it nor the script has a capability over the network
   namespace, which belongs to the outer one: the filter is out of reach from then on, and so is the link.
3. *Attach* (`attach`): a userspace stack (slirp4netns, or pasta) or a macvlan interface gives the namespace a link.
4. Only then is the script started.

What this does not cover: covert use of what is allowed, and a flaw in the userspace stack, which reads what
the script sends; it runs as the sandbox's uid, without capabilities, behind its own seccomp filter and
outside of every filesystem but a few files of `/etc` and `/run`.
"""

from ringfence.sandbox.egress.link.attach import Attachment, attach
from ringfence.sandbox.egress.link.gate import Rules, gate
from ringfence.sandbox.egress.link.macvlan import MacvlanSettings
from ringfence.sandbox.egress.link.program import LinkFailed, find
from ringfence.sandbox.egress.plan import (
    EgressPlan,
    HostNetwork,
    Macvlan,
    Pasta,
    Plumbing,
    Relay,
    Slirp,
    egress_plan,
)
from ringfence.sandbox.egress.relay import RelayLink, attach_relay

__all__ = [
    "Attachment",
    "EgressPlan",
    "HostNetwork",
    "LinkFailed",
    "Macvlan",
    "MacvlanSettings",
    "Pasta",
    "Plumbing",
    "Relay",
    "RelayLink",
    "Rules",
    "Slirp",
    "attach",
    "attach_relay",
    "egress_plan",
    "find",
    "gate",
]
