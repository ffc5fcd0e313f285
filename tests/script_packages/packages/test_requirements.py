"""What somebody may ask for: a name and versions, in one spelling, and nothing else."""

from __future__ import annotations

import pytest
from ringfence.scripts.packages.lock import Ecosystem
from ringfence_script_packages.packages.requirements import RequirementError, Wanted


@pytest.mark.parametrize(
    ("text", "read"),
    [
        ("requests", "requests"),
        ("Requests >= 2, <3", "requests<3,>=2"),
        ("psycopg[Binary,pool]~=3.1", "psycopg[binary,pool]~=3.1"),
        ("ruamel.yaml == 0.18.*", "ruamel-yaml==0.18.*"),
    ],
)
def test_a_package_of_python_is_read_into_one_spelling(text: str, read: str) -> None:
    wanted = Wanted.parse(Ecosystem.PYPI, text)
    assert wanted.text == read
    assert Wanted.parse(Ecosystem.PYPI, wanted.text) == wanted


@pytest.mark.parametrize(
    ("text", "read"),
    [
        ("zod", "zod"),
        ("zod>=3", "zod@>=3"),
        ("zod@^3.2", "zod@^3.2"),
        ("zod@>= 1  <2 || 3.x", "zod@>=1 <2 || 3.x"),
        ("zod@1.0.0 - 2", "zod@1.0.0 - 2"),
        ("@scope/name", "@scope/name"),
        ("@scope/name@~1.2.3-rc.1", "@scope/name@~1.2.3-rc.1"),
    ],
)
def test_a_package_of_node_is_read_into_one_spelling(text: str, read: str) -> None:
    wanted = Wanted.parse(Ecosystem.NPM, text)
    assert wanted.text == read
    assert Wanted.parse(Ecosystem.NPM, wanted.text) == wanted


@pytest.mark.parametrize(
    "text",
    [
        "",
        "-r other.txt",
        "--index-url=x",
        "x @ https://a.invalid/x.whl",
        "./x",
        "x===1",
        "x\ny",
        "x; import",
        "x y",
    ],
)
def test_what_is_more_than_a_package_of_python_is_refused(text: str) -> None:
    with pytest.raises(RequirementError):
        Wanted.parse(Ecosystem.PYPI, text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "--global",
        "-g",
        "../x",
        "/x",
        "a/b",
        "file:x",
        "x@file:../y",
        "x@npm:y@1",
        "x@https://a.invalid/x.tgz",
        "x@git+ssh://a.invalid/x",
        "x@latest",
        "Zod",
        "@scope",
        "@scope/../x",
        "x@1 || ",
        "x@^1 --y",
    ],
)
def test_what_is_more_than_a_package_of_node_is_refused(text: str) -> None:
    with pytest.raises(RequirementError):
        Wanted.parse(Ecosystem.NPM, text)
