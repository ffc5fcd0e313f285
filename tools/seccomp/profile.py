"""The system calls of a container that Ringfence runs in: the runtimes' default, and what a sandbox is made with.

`python -m tools.seccomp` writes it. The default is in `default.json`, with the conditions under which runtimes apply
each of its rules (capabilities, machines, kernels). The profile is for a container without capabilities, and has no
conditions left: containerd reads profiles as the OCI's runtime specification has them, which knows no conditions, and
would take each rule for one that always applies. Docker, Podman and CRI-O read it as well.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
DEFAULT = Path(__file__).with_name("default.json")
WRITTEN = (
    ROOT / "host/ringfence/containers/ringfence-userns.json",
    ROOT / "deploy/seccomp/ringfence-userns.json",
)
"""Where it is: in the wheel, for `ringfence doctor --print-seccomp`, and beside the other files for a deployment."""

MACHINES = frozenset({"amd64", "arm64"})
"""The machines that Ringfence runs on, as the default names them."""

ALLOW = "SCMP_ACT_ALLOW"
CLONE_NEWUSER, CLONE_NEWNET = 0x1000_0000, 0x4000_0000

ADDED: tuple[Mapping[str, Any], ...] = (
    {
        "comment": "Ringfence: clone(2) and unshare(2) with flags make the namespaces of a run",
        "names": ["clone", "unshare"],
        "action": ALLOW,
    },
    {
        "comment": "Ringfence: the file system of a run is made with these, in a mount namespace of its own",
        "names": ["mount", "pivot_root", "umount2"],
        "action": ALLOW,
    },
    {
        "comment": "Ringfence: the supervisor's own /proc, in runs that a policy shows it to",
        "names": ["move_mount", "open_tree"],
        "action": ALLOW,
    },
    {
        "comment": "Ringfence: the host name of a run, in a UTS namespace of its own",
        "names": ["sethostname"],
        "action": ALLOW,
    },
    *(
        {
            "comment": f"Ringfence: what serves the network of a run joins its {what}",
            "names": ["setns"],
            "action": ALLOW,
            "args": [{"index": 1, "value": kinds, "op": "SCMP_CMP_EQ"}],
        }
        for what, kinds in (
            ("user namespace", CLONE_NEWUSER),
            ("network namespace", CLONE_NEWNET),
            ("user and network namespace at once", CLONE_NEWUSER | CLONE_NEWNET),
        )
    ),
)
"""What a sandbox is made with beyond the default. A process without capabilities may do all of this only within user
namespaces of its own: the kernel sees to that."""


def default() -> dict[str, Any]:
    """The runtimes' default, for a container without capabilities."""
    given = json.loads(DEFAULT.read_text())
    return {
        "defaultAction": given["defaultAction"],
        "defaultErrnoRet": given["defaultErrnoRet"],
        "architectures": [
            name for each in given["archMap"] for name in (each["architecture"], *each["subArchitectures"])
        ],
        "syscalls": list(_unconditional(given["syscalls"])),
    }


def profile() -> dict[str, Any]:
    """The default, and what a sandbox is made with."""
    base = default()
    added = {name for rule in ADDED if "args" not in rule for name in rule["names"]}
    # A rule that allows a call with some arguments only says nothing beside one that allows it with any.
    kept = [rule for rule in base["syscalls"] if not added.issuperset(rule["names"])]
    return {**base, "syscalls": [*kept, *map(dict, ADDED)]}


def text(content: Mapping[str, Any]) -> str:
    """A profile as it stands in a file."""
    return json.dumps(content, indent=1) + "\n"


def _unconditional(rules: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """The rules that apply on one of our machines, with a kernel that Ringfence runs on, without any capability."""
    for rule in rules:
        includes, excludes = rule.pop("includes", {}), rule.pop("excludes", {})
        machines = set(includes.get("arches", MACHINES)) - set(excludes.get("arches", ()))
        if MACHINES & machines and not includes.get("caps"):
            yield rule
