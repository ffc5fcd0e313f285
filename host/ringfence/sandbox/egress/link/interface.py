"""A link by macvlan: an interface of the run's own on the host's network, made by a privileged supervisor.

The interface is made straight in the run's namespace, in `private` mode: runs do not hear each other, and the host
itself is not on the other side (the kernel passes nothing between a parent and its macvlans). It goes with the
namespace, so nothing has to be taken down; only its place among the configured addresses is given back.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from ringfence.sandbox.egress.link.macvlan import AddressRange, MacvlanSettings
from ringfence.sandbox.egress.link.program import INTERFACE, LinkFailed, Program, find
from ringfence.sandbox.egress.plan import Macvlan
from ringfence.sandbox.identities.identity import Identity
from ringfence.sandbox.processes.spawner import ready_spawner_for

_ROOT = Identity(0, 0)


@dataclass(slots=True)
class _Places:
    """Which of the configured places are in use by this process (no other may be given the same range)."""

    taken: dict[MacvlanSettings, set[int]] = field(default_factory=dict)

    def take(self, settings: MacvlanSettings) -> int:
        taken = self.taken.setdefault(settings, set())
        free = next((place for place in range(settings.places) if place not in taken), None)
        if free is None:
            raise LinkFailed(
                f"all {settings.places} addresses that are configured for macvlan are in use: "
                "configure more, or allow fewer runs at once",
                passing=True,
            )
        taken.add(free)
        return free

    def give_back(self, settings: MacvlanSettings, place: int) -> None:
        self.taken[settings].discard(place)


_places = _Places()


@dataclass(slots=True)
class MacvlanLink:
    """The interface of one run."""

    settings: MacvlanSettings
    place: int

    @property
    def ended(self) -> str | None:
        """An interface does not end before its namespace."""
        return None

    async def close(self) -> None:
        """Give the addresses back. The interface is gone with the run's last process."""
        _places.give_back(self.settings, self.place)


async def attach_macvlan(plumbing: Macvlan, pid: int) -> MacvlanLink:
    """Make the interface in the network namespace of `pid`, address it and bring it up.

    Raises:
        LinkFailed: if there is no address left, or the interface cannot be made.
    """
    settings = plumbing.settings
    link = MacvlanLink(settings, _places.take(settings))
    try:
        ip, root = find("ip"), await ready_spawner_for(_ROOT, plain=True)
        made = f"link add link {settings.parent} name {INTERFACE} netns {pid} type macvlan mode private\n"
        await Program(root, ip, ["ip", "-batch", "-"], made.encode()).succeed()
        inside = ["nsenter", f"--target={pid}", "--net", "--", ip, "-batch", "-"]
        await Program(root, find("nsenter"), inside, _addressing(plumbing, link.place).encode()).succeed()
    except BaseException:
        await link.close()
        raise
    return link


def _addressing(plumbing: Macvlan, place: int) -> str:
    ranges = [plumbing.settings.ipv4]
    if plumbing.ipv6 and plumbing.settings.ipv6 is not None:
        ranges.append(plumbing.settings.ipv6)
    # The link comes up before its routes, and with its addresses: nothing can be sent from others.
    return (
        "".join(_address(each, place) for each in ranges)
        + f"link set {INTERFACE} up\nlink set lo up\n"
        + "".join(_route(each) for each in ranges)
    )


def _address(each: AddressRange, place: int) -> str:
    nodad = " nodad" if each.network.version == 6 else ""
    return f"address add {each.interface(place)} dev {INTERFACE}{nodad}\n"


def _route(each: AddressRange) -> str:
    return f"-{each.network.version} route add default via {each.gateway} dev {INTERFACE}\n"
