"""The images, built from their Dockerfiles and started with the flags of docs/containers.md; and without each flag."""

from __future__ import annotations

import json
import os
import re
import stat
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.containers import documented, runtime
from tests.containers.runtime import Flags, Image
from tests.primitives import requires
from tools.seccomp import profile as seccomp

pytestmark = [
    pytest.mark.slow,
    pytest.mark.containers,
    requires("root", "runc", "buildah", "mmdebstrap"),
]

SHELL = ("sh", "-c")
LOOK = "ringfence doctor --json; ringfence run --quiet -c 'echo was run'; echo status $?"
VERIFY = LOOK.replace("--json", "--verify --json")
REFUSED = 125

FIRST_UID = 1_000_000


def looked(image: Image, flags: Flags, directory: Path, command: str = LOOK) -> tuple[dict[str, Any], int]:
    """What doctor finds in a container, and the status of a run there."""
    _, said = runtime.run(image, replace(flags, entrypoint=SHELL), [command], directory)
    found, status = re.search(r"^\{.*?^\}$", said, re.M | re.S), re.search(r"^status (\d+)$", said, re.M)
    assert found, said
    assert status, said
    return json.loads(found[0]), int(status[1])


def lacking(found: Mapping[str, Any]) -> list[str]:
    return [one["name"] for one in found["container"]["missing"]]


@pytest.fixture(params=["host", "satellite"])
def image(request: pytest.FixtureRequest) -> Image:
    """Each image in turn."""
    found: Image = request.getfixturevalue(f"{request.param}_image")
    return found


def test_an_image_holds_no_compiler_no_cache_and_nothing_that_gives_rights(image: Image) -> None:
    root = image.root
    for name in ("gcc", "cc", "make", "pip", "pip3", "uv"):
        assert not any((root / place / name).exists() for place in ("usr/bin", "usr/local/bin")), name
    assert not list(root.glob("opt/ringfence/lib/python3*/site-packages/pip"))
    for place in ("var/lib/apt/lists", "var/cache/apt", "root/.cache", "src", "packages", "wheel"):
        assert not (root / place).exists() or not list((root / place).iterdir()), place
    modes = (os.lstat(path).st_mode for path in files(root))
    assert not any(stat.S_ISREG(mode) and mode & (stat.S_ISUID | stat.S_ISGID) for mode in modes)


def test_what_documents_say_of_a_host_needs_nothing_that_the_image_lacks(host_image: Image) -> None:
    for program in ("git", "ssh", "ssh-keygen", "gpg"):
        assert (host_image.root / "usr/bin" / program).exists(), program


def test_an_image_can_send_traces(image: Image) -> None:
    assert list(
        image.root.glob("opt/ringfence/lib/python3*/site-packages/opentelemetry/exporter/otlp/proto/http")
    )


def files(root: Path) -> list[str]:
    return [os.path.join(place, name) for place, _, names in os.walk(root) for name in names]


def test_an_image_says_what_it_is_and_runs_as_nobody_in_particular(image: Image) -> None:
    config = image.config["config"]
    assert config["User"] == "65532:65532"
    assert config["Entrypoint"] == ["tini", "--", "ringfence"]
    assert config["StopSignal"] == "SIGTERM"
    assert config["Healthcheck"]["Test"][0] == "CMD-SHELL"
    labels = {
        name.rpartition(".")[2] for name in config["Labels"] if name.startswith("org.opencontainers.image.")
    }
    assert labels == {"title", "description", "licenses", "version", "revision", "source"}


def test_with_the_documented_flags_nothing_is_lacking_and_every_layer_holds(
    image: Image, directory: Path
) -> None:
    found, status = looked(image, documented.flags(), directory, VERIFY)
    assert lacking(found) == []
    assert found["container"]["runtime"] == "unknown"
    verification = found["verification"]
    assert verification["holds"], [one for one in verification["evidence"] if not one["holds"]]
    there = {
        name for name, one in found["capabilities"].items() if isinstance(one, dict) and one.get("available")
    }
    assert there >= {"userNamespaces", "freshProc", "overlay", "relay", "nft", "python", "node"}
    assert status == 0


LESS: dict[str, tuple[dict[str, Any], str]] = {
    "the runtimes' own profile": ({"seccomp": seccomp.default()}, "seccomp profile"),
    "a masked /proc": ({"unmasked": False}, "unmasked /proc"),
    "no place for temporary files": ({"tmpfs": {}}, "temporary directory"),
    "root": ({"uid": 0}, "user"),
}


@pytest.mark.parametrize("less", LESS)
def test_without_a_flag_runs_are_refused_and_doctor_names_it(
    host_image: Image, directory: Path, less: str
) -> None:
    changed, name = LESS[less]
    found, status = looked(host_image, documented.flags(**changed), directory)
    assert lacking(found) == [name]
    assert "sysctl" not in json.dumps(found), "the container lacks a flag, and the machine no setting"
    assert status == REFUSED


def test_where_the_policy_lets_runs_degrade_one_goes_on_without_namespaces_and_says_so(
    host_image: Image, directory: Path
) -> None:
    flags = documented.flags(seccomp=seccomp.default(), entrypoint=SHELL)
    policy = """echo '{"onUnavailable": "degrade"}' >/tmp/policy.json"""
    run = f"{policy}; ringfence run --json --policy /tmp/policy.json -c 'cat /etc/passwd || echo closed'"
    status, said = runtime.run(host_image, flags, [run], directory)
    result = json.loads(said)
    assert status == 0
    assert result["stdout"] == "closed\n"
    assert result["sandbox"]["mechanisms"]["filesystem"].startswith("Landlock")
    assert [one["layer"] for one in result["sandbox"]["downgrades"]] == ["resources"]


OF_A_VIEW = {"move_mount", "open_tree"}


def without(name: str) -> dict[str, Any]:
    """The profile without one of the calls that it adds."""
    profile = seccomp.profile()
    less = [
        {**rule, "names": [each for each in rule["names"] if each != name]} for rule in profile["syscalls"]
    ]
    kept = [rule for rule in less if rule["names"]]
    if name == "clone":  # as the default has it: without namespaces
        kept += [rule for rule in seccomp.default()["syscalls"] if rule["names"] == ["clone"]]
    return {**profile, "syscalls": kept}


@pytest.mark.parametrize(
    "name", sorted({name for rule in seccomp.ADDED for name in rule["names"]} - OF_A_VIEW)
)
def test_each_call_that_the_profile_adds_is_needed(host_image: Image, directory: Path, name: str) -> None:
    found, status = looked(host_image, documented.flags(seccomp=without(name)), directory)
    assert lacking(found) == ["seccomp profile"]
    assert f"refuses {name} " in found["container"]["missing"][0]["why"]
    assert status == REFUSED or not found["capabilities"]["relay"]["available"]


@pytest.mark.parametrize(
    ("name", "expected"), [("none of them", 0), *((name, REFUSED) for name in sorted(OF_A_VIEW))]
)
def test_each_call_for_a_view_of_the_host_is_needed(
    host_image: Image, directory: Path, name: str, expected: int
) -> None:
    policy = """echo '{"filesystem": {"hostView": ["network"]}}' >/tmp/policy.json"""
    run = "ringfence run --quiet --policy /tmp/policy.json -c 'cat /proc/net/dev'; echo status $?"
    flags = documented.flags(seccomp=without(name))
    found, status = looked(host_image, flags, directory, f"ringfence doctor --json; {policy}; {run}")
    assert lacking(found) == ([] if expected == 0 else ["seccomp profile"])
    assert all(f"refuses {name} " in one["why"] for one in found["container"]["missing"])
    assert status == expected


def without_packet_sockets() -> dict[str, Any]:
    """The profile where no relay can work: socket(2) of AF_PACKET (17) is refused."""
    profile = seccomp.profile()
    kept = [rule for rule in profile["syscalls"] if rule["names"] != ["socket"]]
    families = [
        {"index": 0, "op": "SCMP_CMP_LT", "value": 17},
        {"index": 0, "op": "SCMP_CMP_GT", "value": 17},
    ]
    rules = [{"names": ["socket"], "action": seccomp.ALLOW, "args": [each]} for each in families]
    return {**profile, "syscalls": [*kept, *rules]}


def test_where_the_relay_cannot_work_the_device_is_asked_for_and_serves(
    host_image: Image, directory: Path
) -> None:
    flags = documented.flags(seccomp=without_packet_sockets())
    found, _ = looked(host_image, flags, directory)
    assert lacking(found) == ["/dev/net/tun"]
    found, status = looked(host_image, replace(flags, tun=True), directory)
    assert lacking(found) == []
    assert found["capabilities"]["slirp4netns"]["available"]
    assert status == 0


def test_in_a_user_namespace_of_its_own_a_container_needs_nothing_else(
    host_image: Image, directory: Path
) -> None:
    """As a pod has it that says `hostUsers: false`."""
    volume = directory / "volume"
    volume.mkdir()
    os.chown(volume, FIRST_UID + 65532, FIRST_UID + 65532)
    flags = documented.flags(first_uid=FIRST_UID, volumes={"/var/lib/ringfence": str(volume)})
    found, status = looked(host_image, flags, directory, VERIFY)
    assert lacking(found) == []
    assert found["verification"]["holds"]
    assert status == 0


def test_a_user_without_a_name_can_run_scripts(host_image: Image, directory: Path) -> None:
    found, status = looked(host_image, documented.flags(uid=123_456), directory)
    assert lacking(found) == []
    assert status == 0


def test_ways_out_are_closed_in_the_image_too(
    host_image: Image, packages_of_tests: Path, directory: Path
) -> None:
    tests = [str(documented.ROOT / name) for name in ("tests", "tools", "pyproject.toml")]
    flags = documented.flags(
        entrypoint=("/opt/ringfence/bin/python",),
        # Where tests, not Ringfence, put what scripts are to look for.
        tmpfs={"/tmp": "rw,exec,mode=1777", "/var/tmp": "rw,exec,mode=1777"},
        environment={"PYTHONPATH": "/pytest"},
        volumes={
            "/pytest": f"{packages_of_tests}:ro",
            **{f"/checkout/{Path(path).name}": f"{path}:ro" for path in tests},
        },
    )
    options = [
        "--rootdir",
        "/checkout",
        "-c",
        "/checkout/pyproject.toml",
        "-p",
        "no:cacheprovider",
        "-n",
        "2",
        "-q",
    ]
    deselected = [f"--deselect={one}" for one in OTHERWISE_HERE]
    left_out = [f"--ignore=/checkout/tests/escapes/{name}" for name in LEFT_OUT]
    escapes = [*left_out, *deselected, "/checkout/tests/escapes"]
    status, said = runtime.run(
        host_image, flags, ["-m", "pytest", *options, *escapes], directory, seconds=1200
    )
    assert status == 0, said[-20_000:]
    assert re.search(r"\d{2,} passed", said), said[-2000:]


OTHERWISE_HERE = (
    # The view of disks needs a directory on the root's own file system that can be written to.
    "tests/escapes/test_needs.py::test_of_a_policys_paths_and_views_there_is_what_is_needed",
    # Runs have the uid of their supervisor, and with it what only that may open.
    "tests/escapes/test_sockets.py::test_one_that_is_closed_to_runs_is_told",
)
LEFT_OUT = (
    "test_host_view.py",
    # What they try depends on the kernel and not on what is around the supervisor, and takes long.
    *("test_buffers.py", "test_memory.py", "test_reservations.py", "test_resisting.py", "test_network.py"),
)
