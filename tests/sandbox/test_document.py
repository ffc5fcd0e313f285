"""How a host's capabilities are told: readers of any age find each fact where they always did."""

from __future__ import annotations

import json
from dataclasses import replace
from ipaddress import IPv4Address
from typing import Any

import pytest
from ringfence.sandbox.capabilities.document import to_wire
from ringfence.sandbox.capabilities.found import (
    Found,
    IdentityDrop,
    InstalledWrapper,
    MacvlanAddresses,
    Missing,
    PastaProgram,
    Python,
    TunDevice,
    Uids,
)
from ringfence.sandbox.capabilities.probe import probe
from ringfence.sandbox.egress import HostNetwork
from ringfence.sandbox.identities.identity import Identity
from ringfence.sandbox.identities.uids import SubordinateRange
from ringfence.sandbox.wrappers.choice import WrapperKind
from ringfence.sandbox.wrappers.installed import Program

from tests.sandbox.hosts import cgroup, linux

ADDRESSES = "eth0 192.0.2.100-192.0.2.101/24 via 192.0.2.1"


def here(detail: str, path: str | None = None, *roots: str) -> dict[str, Any]:
    return {"available": True, "detail": detail, "path": path, "roots": list(roots)}


def gone(reason: str, *, tried: bool = True, passing: bool = False) -> dict[str, Any]:
    return {"available": False, "reason": reason, "tried": tried, "passing": passing}


def test_a_host_is_told_primitive_by_primitive() -> None:
    network = HostNetwork((IPv4Address("10.0.0.53"),), has_ipv6=True, lists_pairs=False)
    assert to_wire(replace(linux(), host_network=network, core_pattern="|/bin/crash %p")) == {
        "system": "linux",
        "machine": "x86_64",
        "kernel": "6.1.0",
        "supervisorUid": 0,
        "supervisorGid": 0,
        "wrapperKind": "bubblewrap",
        "wrapper": here("bubblewrap 0.11.0 (bundled)", "/opt/bwrap"),
        "userNamespaces": here("made one"),
        "networkNamespaces": here("made one"),
        "freshProc": here("made one"),
        "overlay": here("made one"),
        "identityDrop": here("root drops to uid 65532, gid 65532, no other groups"),
        "uids": here("65535 for runs, of 2000000000-2000065535", "2000000000-2000065535"),
        "rlimits": here("setrlimit"),
        "seccomp": here("a filter for x86_64"),
        "cgroup": gone("no subtree is delegated"),
        "landlock": here("Landlock ABI 4"),
        "relay": gone("it was not tried", tried=False),
        "nft": here("loaded a ruleset", "/usr/sbin/nft"),
        "tun": here("/dev/net/tun", "/dev/net/tun"),
        "slirp4netns": here("attached a link by slirp4netns", "/usr/bin/slirp4netns"),
        "pasta": gone("pasta is not installed"),
        "macvlan": gone("no addressing is configured"),
        "shell": here("/usr/bin/dash", "/bin/sh"),
        "python": here("Python 3.11.2 (/usr/bin/python3.11)", "/usr/bin/python3.11"),
        "node": here("Node.js v20.20.2 (/usr/bin/node)", "/usr/bin/node"),
        "layout": {"links": [["/bin", "usr/bin"]], "directories": [], "etc": []},
        "hostNetwork": {
            "resolvers": ["10.0.0.53"],
            "hasIpv6": True,
            "speaksIpv6": True,
            "listsPairs": False,
            "read": True,
        },
        "corePattern": "|/bin/crash %p",
    }


@pytest.mark.parametrize(
    ("name", "primitive", "told"),
    [
        (
            "wrapper",
            InstalledWrapper(
                WrapperKind.BUBBLEWRAP, Program("/b/bwrap", "0.11.0", "bundled", ("/b/libcap.so.2",))
            ),
            here("bubblewrap 0.11.0 (bundled)", "/b/bwrap", "/b/libcap.so.2"),
        ),
        (
            "wrapper",
            InstalledWrapper(WrapperKind.NSJAIL, Program("/usr/bin/nsjail", "", "system")),
            here("nsjail (system)", "/usr/bin/nsjail"),
        ),
        ("identity_drop", IdentityDrop(1001), here("the supervisor is uid 1001, and a child inherits that")),
        (
            "identity_drop",
            IdentityDrop(1001, Identity(100_000, 100_000)),
            here("a child can be subordinate uid 100000, with no other groups"),
        ),
        (
            "uids",
            Uids(SubordinateRange(100_000, 165_535, Identity(1001, 1001))),
            here("65536 for runs, of 100000-165535", "100000-165535"),
        ),
        (
            "cgroup",
            cgroup("/sys/fs/cgroup/unit", mounts=("/sys/fs/cgroup",)),
            here(
                "memory.max, pids.max and cgroup.kill under /sys/fs/cgroup/unit",
                "/sys/fs/cgroup/unit",
                "/sys/fs/cgroup",
            ),
        ),
        (
            "cgroup",
            cgroup("/c/a.scope", is_scope=True),
            here(
                "memory.max, pids.max and cgroup.kill under /c/a.scope, a transient scope of systemd",
                "/c/a.scope",
            ),
        ),
        (
            "cgroup",
            cgroup("/m/unit", "/p/unit", mounts=("/m", "/p")),
            here(
                "memory.limit_in_bytes and pids.max of cgroup v1 under /m/unit and /p/unit",
                "v1:/m/unit:/p/unit",
                "/m",
                "/p",
            ),
        ),
        (
            "tun",
            TunDevice(own_node=True),
            here("a node of its own, since the host's is for root only"),
        ),
        ("pasta", PastaProgram("/usr/bin/pasta"), here("attached a link by pasta", "/usr/bin/pasta")),
        ("macvlan", MacvlanAddresses.of(ADDRESSES), here("2 addresses on eth0", ADDRESSES)),
        (
            "python",
            Python("/opt/py/bin/python3", "3.12.1", ("/opt/py",)),
            here("Python 3.12.1 (/opt/py/bin/python3)", "/opt/py/bin/python3", "/opt/py"),
        ),
        ("node", Missing("nothing was free", passing=True), gone("nothing was free", passing=True)),
        ("node", Missing("nobody asked", tried=False), gone("nobody asked", tried=False)),
    ],
)
def test_what_path_and_roots_are_depends_on_the_primitive(
    name: str, primitive: Found | Missing, told: dict[str, Any]
) -> None:
    document = to_wire(linux(**{name: primitive}))
    assert document[{"identity_drop": "identityDrop"}.get(name, name)] == told


def test_what_is_probed_here_can_be_told_in_json() -> None:
    found = probe(links=False)
    document = json.loads(json.dumps(to_wire(found)))
    told = {name for name, value in document.items() if isinstance(value, dict) and "available" in value}
    assert told == {name for name, _ in found.primitives()}
