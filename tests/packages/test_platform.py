"""What a machine is, told by the interpreters that scripts are run with."""

import sys
from dataclasses import replace
from pathlib import Path

import pytest
from packaging.tags import Tag, sys_tags
from ringfence.sandbox.capabilities.found import Missing, Node, Python
from ringfence.sandbox.capabilities.probe import probe
from ringfence.sandbox.faults import Unavailable
from ringfence.scripts.packages.platform import Libc, Platform, PythonPlatform

from tests.packages.machines import ALPINE, DEBIAN, RASPBERRY


def test_the_interpreters_of_scripts_are_asked() -> None:
    capabilities = probe()
    assert isinstance(capabilities.python, Python)
    assert isinstance(capabilities.node, Node)
    platform = Platform.of(capabilities)
    assert platform.python is not None
    assert platform.python.version == capabilities.python.version
    assert platform.node is not None
    assert f"v{platform.node.version}" == capabilities.node.version
    assert int(platform.node.abi) > 0


def test_another_python_than_ours_is_asked_and_not_ours(open_directory: Path) -> None:
    other = open_directory / "python3"
    other.write_text(
        '#!/bin/sh\necho \'{"implementation": "cpython", "version": "3.13.1", "machine": "x86_64",'
        ' "libc": "musl", "libcVersion": "1.2"}\'\n'
    )
    other.chmod(0o755)
    capabilities = replace(probe(), python=Python(str(other), "3.13.1"), node=Missing("there is none"))
    platform = Platform.of(capabilities)
    assert platform.node is None
    assert platform.python is not None
    assert (platform.python.version, platform.python.libc) == ("3.13.1", Libc.MUSL)
    assert Tag("cp313", "cp313", "musllinux_1_2_x86_64") in platform.python.tags


def test_an_answer_that_is_none_is_not_believed(open_directory: Path) -> None:
    other = open_directory / "python3"
    other.write_text('#!/bin/sh\necho \'{"implementation": "../..", "version": "3.13.1"}\'\n')
    other.chmod(0o755)
    capabilities = replace(probe(), python=Python(str(other), "3.13.1"))
    with pytest.raises(Unavailable, match=r"tells what is not understood: implementation"):
        Platform.of(capabilities)


def test_the_tags_are_those_that_packaging_finds_for_the_same_interpreter() -> None:
    capabilities = replace(
        probe(), python=Python(sys.executable, sys.version.split()[0]), identity_drop=Missing("not tried")
    )
    platform = Platform.of(capabilities)
    assert platform.python is not None
    theirs, ours = ([str(tag) for tag in tags] for tags in (sys_tags(), platform.python.tags))
    assert sorted(ours) == sorted(theirs)
    # Where those of `linux_…` stand, which no registry has, differs between releases of packaging.
    local = f"-linux_{platform.python.machine}"
    assert [tag for tag in ours if local not in tag] == [tag for tag in theirs if local not in tag]


@pytest.mark.parametrize("platform", [DEBIAN, ALPINE, RASPBERRY, Platform()])
def test_a_platform_is_the_same_after_a_journey(platform: Platform) -> None:
    again = Platform.model_validate_json(platform.model_dump_json(by_alias=True))
    assert again == platform
    assert again.key == platform.key


def test_platforms_that_differ_have_different_keys() -> None:
    assert len({platform.key for platform in (DEBIAN, ALPINE, RASPBERRY, Platform())}) == 4


def test_another_implementation_takes_pure_python_alone() -> None:
    pypy = PythonPlatform(
        implementation="pypy", version="3.10.14", machine="x86_64", libc=Libc.GLIBC, libc_version="2.36"
    )
    assert Tag("py3", "none", "any") in pypy.tags
    assert not [tag for tag in pypy.tags if tag.interpreter.startswith("cp")]


def test_a_libc_that_cannot_be_makes_no_endless_list() -> None:
    absurd = PythonPlatform(
        implementation="cpython", version="3.11.2", machine="x86_64", libc=Libc.GLIBC, libc_version="2.9999"
    )
    assert len(absurd.tags) < 10_000
