"""What a simple index says is read as a stranger's page, and what a wheel says of itself as a stranger's archive."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import AsyncIterator

import pytest
from ringfence_script_packages.packages.resolving import wheel_metadata
from ringfence_script_packages.packages.resolving.index_pages import (
    IndexFile,
    UnreadablePageError,
    files_of,
    offer_of,
    page_of,
)
from ringfence_script_packages.packages.resolving.wheel_metadata import UnreadableWheelError, read_wheel

from tests.script_packages.resolving.registry import wheel, wheel_name

HERE = "https://index.example/simple/tea/"


def test_a_page_of_html_is_read_as_pip_reads_it() -> None:
    page = f"""<!DOCTYPE html><html><head><base href="https://files.example/a/"></head><body>
      <a href="../tea-1.0-py3-none-any.whl#sha256={"a" * 64}" data-requires-python=">=3.8">x</a>
      <A HREF='tea-2.0-py3-none-any.whl' data-yanked="too hot" data-core-metadata="true">x</A>
      <a data-yanked href="/tea%2D3.0.tar.gz">x</a><a name="nothing">x</a><a href="https://[">x</a>"""
    assert files_of("text/html; charset=utf-8", page.encode(), HERE) == (
        IndexFile(
            "tea-1.0-py3-none-any.whl",
            "https://files.example/tea-1.0-py3-none-any.whl",
            "a" * 64,
            requires_python=">=3.8",
        ),
        IndexFile(
            "tea-2.0-py3-none-any.whl",
            "https://files.example/a/tea-2.0-py3-none-any.whl",
            yanked="too hot",
            metadata=True,
        ),
        IndexFile("tea-3.0.tar.gz", "https://files.example/tea%2D3.0.tar.gz", yanked=True),
    )


def test_a_page_of_json_is_read_and_written_alike() -> None:
    files = (
        IndexFile(wheel_name("tea"), f"{HERE}a.whl", "a" * 64, 17, ">=3.8", False, True),
        IndexFile(wheel_name("tea", "2.0"), f"{HERE}b.whl", yanked="too hot"),
    )
    assert files_of("application/vnd.pypi.simple.v1+json", page_of("tea", files), HERE) == files


@pytest.mark.parametrize("size", [True, -1, "1", 1.5, None])
def test_what_is_no_size_is_none(size: object) -> None:
    told = {"filename": "x", "url": "x", "size": size, "hashes": {"sha256": "A" * 64}, "yanked": 1}
    (file,) = files_of("application/json", json.dumps({"files": [told]}).encode(), HERE)
    assert (file.size, file.sha256, file.yanked) == (None, "a" * 64, False)


@pytest.mark.parametrize("kind", ["application/pdf", "image/png"])
def test_another_kind_of_page_is_refused(kind: str) -> None:
    with pytest.raises(UnreadablePageError):
        files_of(kind, b"", HERE)


@pytest.mark.parametrize("piece", ["<a ", '<a "', "<!", "<a href='x' ", "<a b=\"'", "</a"])
def test_a_hostile_page_takes_no_time(piece: str) -> None:
    # By its square, this would take minutes; the test ends by itself then.
    assert files_of("text/html", piece.encode() * 300_000, HERE) == ()


def test_only_wheels_for_linux_are_offered_and_the_rest_is_counted() -> None:
    names = ("tea-1.0.tar.gz", "tea-1.0-py3-none-any.whl", "tea-1.0-cp311-cp311-macosx_11_0_arm64.whl")
    more = ("other-1.0-py3-none-any.whl", "tea.whl", "tea-1.0-py3-none-any.whl")
    offer = offer_of([IndexFile(name, name) for name in (*names, *more)], "tea")
    assert [file.filename for file in offer.wheels] == ["tea-1.0-py3-none-any.whl"]
    assert (offer.sources, offer.others) == (1, 1)


def test_a_name_that_means_thousands_of_tags_is_left_out() -> None:
    many = ".".join(f"a{number}" for number in range(20))
    assert offer_of([IndexFile(f"tea-1.0-{many}-{many}-any.{many}.whl", "x")], "tea").wheels == ()


async def _in_pieces(content: bytes) -> AsyncIterator[bytes]:
    for start in range(0, len(content), 1000):
        yield content[start : start + 1000]


async def test_a_wheel_says_what_it_needs_and_is_measured() -> None:
    content = wheel("tea", needs=("water>=1",))
    text, measured = await read_wheel(_in_pieces(content), "tea")
    assert b"Requires-Dist: water>=1" in text
    assert measured.size == len(content)


def _archive(members: dict[str, bytes]) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return out.getvalue()


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (b"", "no archive"),
        (b"PK\5\6", "no archive"),
        (wheel("tea")[:-5], "no archive"),
        (_archive({"x": b""}), "no METADATA"),
        (_archive({"other-1.0.dist-info/METADATA": b"x"}), "no METADATA"),
        (_archive({"a/tea-1.0.dist-info/METADATA": b"x"}), "no METADATA"),
        (_archive({"tea-1.0.dist-info/METADATA": bytes(9 * 1024 * 1024)}), "too large"),
        (b"PK\6\7" + bytes(16) + _archive({})[-22:], "more than 4 GiB"),
        (b"PK\5\6" + bytes(8) + b"\xff\xff\xff\x7f" + bytes(6), "too many files"),
    ],
)
async def test_what_is_no_wheel_is_told(content: bytes, what: str) -> None:
    with pytest.raises(UnreadableWheelError, match=what):
        await read_wheel(_in_pieces(content), "tea")


async def test_a_list_of_members_that_is_too_long_is_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wheel_metadata, "LARGEST_DIRECTORY", 1000)
    with pytest.raises(UnreadableWheelError, match="too many files"):
        await read_wheel(_in_pieces(_archive({f"{number}": b"" for number in range(100)})), "tea")
