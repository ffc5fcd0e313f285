"""What a lock names, what it refuses to name, and which files of it a platform takes."""

import hashlib
import json
import random
from typing import Any

import pytest
from pydantic import ValidationError
from ringfence.scripts.packages.lock import (
    Ecosystem,
    Lock,
    LockedFile,
    NodePackage,
    NoFit,
    PythonPackage,
    Requirement,
)
from ringfence.scripts.packages.platform import Platform

from tests.packages.machines import ALPINE, DEBIAN, RASPBERRY


def a_file(filename: str, size: int = 10, **also: Any) -> LockedFile:
    return LockedFile(
        filename=filename, sha256=hashlib.sha256(filename.encode()).hexdigest(), size=size, **also
    )


def python_package(name: str, *tags: str, version: str = "1.0", marker: str | None = None) -> PythonPackage:
    files = tuple(
        a_file(f"{name.replace('-', '_')}-{version}-{tag}.whl") for tag in tags or ("py3-none-any",)
    )
    return PythonPackage(name=name, version=version, marker=marker, files=files)


def node_package(path: str, **also: Any) -> NodePackage:
    name = path.rpartition("node_modules/")[2]
    return NodePackage(
        path=path, name=name, version="1.0.0", file=a_file(f"{path.replace('/', '+')}.tgz"), **also
    )


def names(files: tuple[LockedFile, ...] | NoFit) -> list[str]:
    assert not isinstance(files, NoFit), str(files)
    return [file.filename for file in files]


COMPILED = python_package(
    "numpy",
    "cp311-cp311-manylinux_2_17_x86_64.manylinux2014_x86_64",
    "cp312-cp312-musllinux_1_2_x86_64",
    "cp313-cp313-manylinux_2_28_aarch64",
    "cp311-cp311-macosx_11_0_arm64",
    "cp311-cp311-win_amd64",
)


@pytest.mark.parametrize(
    ("platform", "wheel"),
    [
        (DEBIAN, "numpy-1.0-cp311-cp311-manylinux_2_17_x86_64.manylinux2014_x86_64.whl"),
        (ALPINE, "numpy-1.0-cp312-cp312-musllinux_1_2_x86_64.whl"),
        (RASPBERRY, "numpy-1.0-cp313-cp313-manylinux_2_28_aarch64.whl"),
    ],
)
def test_each_platform_takes_its_own_wheel(platform: Platform, wheel: str) -> None:
    assert names(Lock(python=(COMPILED,)).files_for(platform)) == [wheel]


def test_the_better_of_two_wheels_is_taken_and_the_higher_build() -> None:
    package = python_package("x", "py3-none-any", "cp311-abi3-manylinux_2_17_x86_64")
    assert names(Lock(python=(package,)).files_for(DEBIAN)) == ["x-1.0-cp311-abi3-manylinux_2_17_x86_64.whl"]
    built = python_package("x", "2-py3-none-any", "10-py3-none-any", "py3-none-any")
    assert names(Lock(python=(built,)).files_for(DEBIAN)) == ["x-1.0-10-py3-none-any.whl"]


def test_a_platform_without_a_wheel_is_told_which_package_has_none() -> None:
    windows = python_package("pywin32", "cp311-cp311-win_amd64")
    misfit = Lock(python=(windows,)).files_for(DEBIAN)
    assert str(misfit) == ("pywin32: 1.0 has no wheel for this platform (cpython 3.11.2, x86_64, glibc 2.36)")


def test_markers_decide_which_packages_a_platform_needs() -> None:
    lock = Lock(
        python=(
            python_package("colorama", marker="sys_platform == 'win32'"),
            python_package("tomli", marker="python_version < '3.12'"),
            python_package("numpy", version="1.0", marker="python_version < '3.12'"),
            python_package("numpy", version="2.0", marker="python_version >= '3.12'"),
        )
    )
    assert names(lock.files_for(DEBIAN)) == ["numpy-1.0-py3-none-any.whl", "tomli-1.0-py3-none-any.whl"]
    assert names(lock.files_for(ALPINE)) == ["numpy-2.0-py3-none-any.whl"]


def test_two_versions_for_one_platform_do_not_fit() -> None:
    lock = Lock(python=(python_package("x", version="1.0"), python_package("x", version="2.0")))
    assert str(lock.files_for(DEBIAN)) == "x: the lock names two versions for this platform: 1.0 and 2.0"


def test_a_lock_for_newer_pythons_says_so() -> None:
    lock = Lock(python=(python_package("x"),), requires_python=">=3.12")
    assert str(lock.files_for(DEBIAN)) == "python: the lock is for Python >=3.12, not 3.11.2"
    assert names(lock.files_for(ALPINE)) == ["x-1.0-py3-none-any.whl"]


def test_of_npm_what_is_optional_and_for_another_machine_is_left_out_with_what_it_holds() -> None:
    lock = Lock(
        node=(
            node_package("node_modules/zod"),
            node_package("node_modules/fsevents", os=("darwin",), optional=True),
            node_package("node_modules/fsevents/node_modules/nan", optional=True),
            node_package("node_modules/@esbuild/linux-x64", os=("linux",), cpu=("x64",), optional=True),
            node_package("node_modules/@s/musl", libc=("musl",), optional=True),
            node_package("node_modules/not-windows", os=("!win32",)),
        )
    )
    assert names(lock.files_for(DEBIAN)) == [
        "node_modules+@esbuild+linux-x64.tgz",
        "node_modules+not-windows.tgz",
        "node_modules+zod.tgz",
    ]
    assert "node_modules+@s+musl.tgz" in names(lock.files_for(ALPINE))


def test_of_npm_what_is_needed_and_for_another_machine_does_not_fit() -> None:
    lock = Lock(node=(node_package("node_modules/mac", os=("darwin",)),))
    assert str(lock.files_for(DEBIAN)) == (
        "mac: 1.0.0 does not fit this platform: it is for darwin, and this is linux"
    )


def test_a_machine_without_an_interpreter_needs_nothing_of_its_packages() -> None:
    lock = Lock(python=(python_package("x"),), node=(node_package("node_modules/zod"),))
    assert names(lock.files_for(RASPBERRY)) == ["x-1.0-py3-none-any.whl"]
    assert lock.files_for(Platform()) == ()


def test_the_hash_is_of_the_packages_and_not_of_their_order_addresses_or_requirements() -> None:
    packages = [python_package(name) for name in ("a", "b", "c")]
    plain = Lock(python=tuple(packages), node=(node_package("node_modules/zod"),))
    random.shuffle(packages)
    placed = [
        package.model_copy(
            update={
                "files": tuple(
                    file.model_copy(update={"url": "https://mirror.example/x.whl"}) for file in package.files
                )
            }
        )
        for package in packages
    ]
    asked = (Requirement(ecosystem=Ecosystem.PYPI, text="a>=1"),)
    other = Lock(requirements=asked, python=tuple(placed), node=plain.node)
    assert other.hash == plain.hash
    assert len(plain.hash) == 64
    assert Lock(python=tuple(packages[:2])).hash != plain.hash
    changed = packages[0].files[0].model_copy(update={"sha256": "f" * 64})
    swapped = packages[0].model_copy(update={"files": (changed,)})
    assert Lock(python=(swapped, *packages[1:]), node=plain.node).hash != plain.hash


def test_a_lock_is_the_same_after_a_journey() -> None:
    lock = Lock(python=(COMPILED,), node=(node_package("node_modules/@s/x", libc=("glibc",)),))
    again = Lock.model_validate_json(lock.model_dump_json(by_alias=True))
    assert again == lock
    assert again.hash == lock.hash
    assert again.size == lock.size == 60


@pytest.mark.parametrize(
    ("at", "value", "said"),
    [
        ("filename", "../x-1.0-py3-none-any.whl", "pattern"),
        ("filename", "x-1.0-py3-none-any.whl\n", "pattern"),
        ("filename", "x-1.0.tar.gz", "is no wheel"),
        ("filename", "y-1.0-py3-none-any.whl", "is no wheel of x 1.0"),
        ("filename", "x-2.0-py3-none-any.whl", "is no wheel of x 1.0"),
        ("sha256", "A" * 64, "pattern"),
        ("sha256", "a" * 63, "pattern"),
        ("size", -1, "greater than"),
        ("size", 10**12, "less than"),
        ("size", "10", "integer"),
        ("url", "https://name:secret@host.example/x.whl", "must not hold a name"),
        ("url", "ftp://host.example/x.whl", "must be an address"),
        ("also", 1, "Extra inputs"),
    ],
)
def test_a_file_that_could_mislead_is_not_locked_and_is_not_quoted(at: str, value: object, said: str) -> None:
    file = {"filename": "x-1.0-py3-none-any.whl", "sha256": "a" * 64, "size": 1}
    document = {"python": [{"name": "x", "version": "1.0", "files": [file | {at: value}]}]}
    with pytest.raises(ValidationError, match=said) as caught:
        Lock.model_validate_json(json.dumps(document))
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    "path",
    [
        "zod",
        "/node_modules/zod",
        "node_modules/../zod",
        "node_modules/.bin",
        "node_modules/a/b",
        "node_modules/@s",
        "node_modules/@s/../x",
        "node_modules/x/node_modules",
        "node_modules/x/",
        "node_modules/x\\y",
        "node_modules/x\0",
    ],
)
def test_a_place_outside_of_node_modules_is_not_locked(path: str) -> None:
    with pytest.raises(ValidationError, match="must be a place beneath node_modules"):
        NodePackage(path=path, name="zod", version="1.0.0", file=a_file("zod.tgz"))


def test_one_place_is_not_given_to_two_packages() -> None:
    with pytest.raises(ValidationError, match="named twice"):
        Lock(node=(node_package("node_modules/zod"), node_package("node_modules/Zod")))
    with pytest.raises(ValidationError, match="named twice"):
        Lock(python=(python_package("x"), python_package("x")))


def test_one_file_has_one_size() -> None:
    with pytest.raises(ValidationError, match="two sizes"):
        Lock(
            node=(
                NodePackage(path="node_modules/a", name="a", version="1.0.0", file=a_file("a.tgz", size=1)),
                NodePackage(path="node_modules/b", name="a", version="1.0.0", file=a_file("a.tgz", size=2)),
            )
        )


@pytest.mark.parametrize("name", ["Requests", "ruamel.yaml", "a--b", "-a", "a/b", ""])
def test_a_name_that_is_not_normal_is_not_locked(name: str) -> None:
    with pytest.raises(ValidationError, match="normal form"):
        PythonPackage(name=name, version="1.0", files=(a_file("x-1.0-py3-none-any.whl"),))
