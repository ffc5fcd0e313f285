"""What a container lacks is told from what was found: the first cause, and no cause that something else explains."""

from __future__ import annotations

import json
import platform
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from ringfence.containers.missing import explained_by, missing
from ringfence.containers.surroundings import Surroundings, look, runtime_of
from ringfence.sandbox.capabilities.found import Missing
from ringfence.sandbox.capabilities.model import Capabilities
from ringfence.sandbox.filters.seccomp import Architecture
from ringfence.sandbox.filters.seccomp.calls import VERDICTS

from tests.primitives import requires
from tests.sandbox import hosts
from tools.seccomp import profile as seccomp

REFUSED = Missing("Operation not permitted")
WITHOUT_NAMESPACES = {"user_namespaces": REFUSED, "network_namespaces": REFUSED, "fresh_proc": REFUSED}
FILTERED = Surroundings(runtime="docker", has_call_filter=True)


def capable(**differences: Any) -> Capabilities:
    return hosts.linux(**{"supervisor_uid": 65532, **differences})


def names(capabilities: Capabilities, around: Surroundings) -> list[str]:
    return [one.name for one in missing(capabilities, around)]


def test_a_container_that_has_everything_lacks_nothing() -> None:
    assert names(capable(), FILTERED) == []


def test_a_machine_that_is_no_container_is_told_nothing() -> None:
    around = Surroundings(refused_calls=("unshare",), has_temporary_directory=False)
    assert names(capable(**WITHOUT_NAMESPACES), around) == []


@pytest.mark.parametrize(
    ("around", "told"),
    [
        (replace(FILTERED, refused_calls=("unshare", "mount")), ["seccomp profile"]),
        (replace(FILTERED, closed_settings=("user.max_user_namespaces",)), ["user.max_user_namespaces"]),
        (
            replace(
                FILTERED, refused_calls=("clone",), closed_settings=("kernel.unprivileged_userns_clone",)
            ),
            ["seccomp profile", "kernel.unprivileged_userns_clone"],
        ),
        (replace(FILTERED, lsm_label="docker-default (enforce)"), ["AppArmor profile"]),
        (replace(FILTERED, lsm_label="system_u:system_r:container_t:s0:c1,c2"), ["SELinux label"]),
        (replace(FILTERED, lsm_label="unconfined"), ["seccomp profile"]),
        (FILTERED, ["seccomp profile"]),
        (replace(FILTERED, has_call_filter=False), []),
    ],
)
def test_what_keeps_namespaces_from_being_made_is_found(around: Surroundings, told: list[str]) -> None:
    assert names(capable(**WITHOUT_NAMESPACES), around) == told


def test_a_filter_that_refuses_only_some_calls_is_found_where_namespaces_can_be_made() -> None:
    assert names(capable(), replace(FILTERED, refused_calls=("setns",))) == ["seccomp profile"]


def test_what_covers_proc_is_named() -> None:
    (one,) = missing(capable(fresh_proc=REFUSED), replace(FILTERED, masked="/proc/acpi"))
    assert one.name == "unmasked /proc"
    assert "/proc/acpi" in one.why
    assert "hostUsers: false" in one.kubernetes


def test_what_covers_proc_is_named_beside_what_keeps_namespaces_from_being_made() -> None:
    around = replace(FILTERED, refused_calls=("unshare",), masked="/proc/acpi")
    assert names(capable(**WITHOUT_NAMESPACES), around) == ["seccomp profile", "unmasked /proc"]
    assert names(capable(), replace(FILTERED, masked="/proc/acpi")) == []


def test_a_proc_that_nothing_covers_is_refused_by_apparmor() -> None:
    around = replace(FILTERED, lsm_label="docker-default (enforce)")
    assert names(capable(fresh_proc=REFUSED), around) == ["AppArmor profile"]


def test_what_failed_for_a_moment_is_not_told_as_missing() -> None:
    assert (
        names(capable(fresh_proc=Missing("no memory", passing=True)), replace(FILTERED, masked="/proc/acpi"))
        == []
    )


def test_no_temporary_directory_a_root_without_rights_and_no_device_are_told() -> None:
    around = replace(FILTERED, has_temporary_directory=False, has_tun=False)
    capabilities = capable(supervisor_uid=0, identity_drop=REFUSED, tun=REFUSED)
    assert names(capabilities, around) == ["user", "temporary directory", "/dev/net/tun"]


def test_a_root_that_can_become_nobody_else_is_told_that_first_and_no_guess_beside_it() -> None:
    capabilities = capable(supervisor_uid=0, identity_drop=REFUSED, **WITHOUT_NAMESPACES)
    assert names(capabilities, FILTERED) == ["user"]
    assert names(capabilities, replace(FILTERED, refused_calls=("clone",))) == ["user", "seccomp profile"]


def test_the_device_is_not_asked_for_where_the_relay_works() -> None:
    assert names(capable(tun=Missing("the relay works", tried=False)), replace(FILTERED, has_tun=False)) == []


def test_the_device_is_not_asked_for_where_the_relay_lacks_a_call() -> None:
    around = replace(FILTERED, refused_calls=("setns",), has_tun=False)
    assert names(capable(tun=REFUSED), around) == ["seccomp profile"]


STORED = "/containers/storage/overlay-containers/" + "5e" * 32 + "/userdata"
MOUNTS = """\
2021 1895 0:302 / / ro,relatime - overlay overlay ro,lowerdir=/containers/storage/overlay/l/A
2031 2021 0:25 {directory}/hostname /etc/hostname ro,nosuid - tmpfs tmpfs rw,size=1631248k
"""


@pytest.mark.parametrize(
    ("environment", "mark", "mounts", "runtime"),
    [
        ({}, None, "", None),
        ({"container": "oci"}, None, "", "unknown"),
        ({"container": "oci"}, None, MOUNTS.format(directory="/lib/kept/files"), "unknown"),
        ({"container": "oci"}, None, MOUNTS.format(directory=STORED), "podman"),
        ({"container": "oci"}, None, MOUNTS.format(directory="/containers/" + "5e" * 32), "docker"),
        ({}, None, MOUNTS.format(directory=STORED), None),
        ({"container": "oci"}, "run/.containerenv", "", "podman"),
        ({}, ".dockerenv", "", "docker"),
        ({"KUBERNETES_SERVICE_HOST": "10.0.0.1"}, "run/.containerenv", "", "kubernetes"),
    ],
)
def test_whose_container_it_is(
    environment: dict[str, str], mark: str | None, mounts: str, runtime: str | None, tmp_path: Path
) -> None:
    for path, content in ((mark, ""), ("proc/self/mountinfo", mounts)):
        if path is not None:
            file = tmp_path / path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(content)
    assert runtime_of(environment, tmp_path) == runtime


def test_looking_changes_nothing_and_finds_no_filter_where_there_is_none() -> None:
    namespaces = [Path(f"/proc/self/ns/{kind}").readlink() for kind in ("user", "mnt", "net")]
    assert look().refused_calls == ()
    assert [Path(f"/proc/self/ns/{kind}").readlink() for kind in ("user", "mnt", "net")] == namespaces


HERE = Architecture.of(platform.machine())
NUMBERS = {call.name: call.number(HERE) for calls in VERDICTS.values() for call in calls if HERE is not None}

REFUSING = """
import ctypes, json, os, struct, sys
from ringfence.containers.surroundings import look
class Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_char_p))
libc = ctypes.CDLL(None, use_errno=True)
for number in map(int, sys.argv[1:]):
    if os.fork() == 0:
        # Classic BPF: load the number; EPERM if it is that one; else allow.
        steps = [(0x20, 0, 0, 0), (0x15, 0, 1, number), (0x06, 0, 0, 0x50001), (0x06, 0, 0, 0x7FFF0000)]
        program = Program(len(steps), b"".join(struct.pack("<HBBI", *step) for step in steps))
        assert libc.prctl(38, 1, 0, 0, 0) == 0 and libc.prctl(22, 2, ctypes.byref(program)) == 0
        print(json.dumps(look().refused_calls), flush=True)
        os._exit(0)
    os.wait()
"""


@requires("user namespaces")
def test_each_call_of_the_profile_is_named_where_a_filter_refuses_it() -> None:
    # Processes are made by clone, too: filters refuse it by its flags. test_images.py has containers of that kind.
    names = sorted({name for rule in seccomp.ADDED for name in rule["names"]} - {"clone"})
    numbers = [str(NUMBERS[name]) for name in names]
    done = subprocess.run([sys.executable, "-c", REFUSING, *numbers], capture_output=True, text=True)
    assert [json.loads(line) for line in done.stdout.splitlines()] == [[name] for name in names], done.stderr


def test_what_a_container_lacks_explains_the_primitives_that_go_with_it() -> None:
    def explained(capabilities: Capabilities, around: Surroundings) -> frozenset[str]:
        return explained_by(missing(capabilities, around))

    refused = replace(FILTERED, refused_calls=("unshare",))
    assert explained(capable(**WITHOUT_NAMESPACES), refused) >= {"userNamespaces", "freshProc", "relay"}
    closed = replace(FILTERED, closed_settings=("user.max_net_namespaces",))
    assert "networkNamespaces" in explained(capable(**WITHOUT_NAMESPACES), closed)
    assert explained(capable(fresh_proc=REFUSED), replace(FILTERED, masked="/proc/acpi")) == {"freshProc"}
    stuck = capable(supervisor_uid=0, identity_drop=REFUSED, **WITHOUT_NAMESPACES)
    assert explained(stuck, FILTERED) >= {"identityDrop", "userNamespaces"}
    assert explained(capable(), replace(FILTERED, has_temporary_directory=False)) == set()
    assert explained(capable(), FILTERED) == set()
