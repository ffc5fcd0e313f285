"""What becomes of wheels and tarballs, honest and hostile: a tree as it was locked, or none."""

from __future__ import annotations

import io
import os
import stat
import tarfile
import zipfile
from pathlib import Path

import pytest
from ringfence.scripts.packages.errors import (
    BlobDamagedError,
    BlobMissingError,
    DoesNotFitError,
    PackageRefusedError,
)
from ringfence.scripts.packages.lock import Lock
from ringfence.scripts.packages.platform import Platform
from ringfence.scripts.packages.trees import Trees
from ringfence.scripts.packages.unpacking import Bounds

from tests.packages.archives import Registry, gzipped, npm, record_row, tarball, wheel
from tests.packages.machines import ALPINE, DEBIAN


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    return Registry(tmp_path / "top" / "blobs")


def make(registry: Registry, bounds: Bounds = Bounds()) -> Path:  # noqa: B008
    return Trees(registry.directory.parent / "here", registry.blobs, bounds).make(registry.lock, DEBIAN)


def refused(registry: Registry, bounds: Bounds = Bounds()) -> str:  # noqa: B008
    """Why a tree is refused, once it was seen that nothing of it, and nothing outside, is there."""
    top = registry.directory.parent
    before = {path for path in top.parent.rglob("*") if "here" not in path.parts}
    with pytest.raises(PackageRefusedError) as caught:
        make(registry, bounds)
    assert os.listdir(top / "here/trees") == []
    assert os.listdir(top / "here/drafts") == []
    assert {path for path in top.parent.rglob("*") if "here" not in path.parts} == before
    return str(caught.value)


def files_of(tree: Path) -> dict[str, str]:
    return {
        str(path.relative_to(tree)): path.read_text(errors="replace")
        for path in sorted(tree.rglob("*"))
        if path.is_file()
    }


def test_a_tree_holds_the_modules_and_the_metadata_of_its_packages(registry: Registry) -> None:
    registry.python("alpha", wheel("alpha", {"alpha/__init__.py": "WORD = 'a'\n", "alpha/data.txt": "x"}))
    registry.node("node_modules/zod", npm("zod"))
    registry.node("node_modules/@s/x", npm("@s/x"))
    registry.node("node_modules/@s/x/node_modules/zod", npm("zod", {"other.js": "2"}))
    tree = make(registry)
    files = files_of(tree)
    assert files["python/alpha/__init__.py"] == "WORD = 'a'\n"
    assert files["python/alpha-1.0.dist-info/INSTALLER"] == "ringfence\n"
    assert "alpha/data.txt,," in files["python/alpha-1.0.dist-info/RECORD"]
    assert files["node_modules/zod/index.js"] == "module.exports = 'zod';\n"
    assert files["node_modules/@s/x/index.js"] == "module.exports = '@s/x';\n"
    assert files["node_modules/@s/x/node_modules/zod/other.js"] == "2"


def test_everybody_may_read_a_tree_and_nobody_else_may_write_whatever_the_umask_and_the_archive(
    registry: Registry,
) -> None:
    program = zipfile.ZipInfo("alpha/tool")
    program.external_attr = (stat.S_IFREG | 0o6777) << 16
    content = b"#!/bin/sh\n"
    data = wheel(
        "alpha",
        {"alpha/__init__.py": ""},
        also=[(program, content)],
        record=[
            record_row("alpha/__init__.py", b""),
            record_row("alpha/tool", content),
            record_row("alpha-1.0.dist-info/METADATA", b"Metadata-Version: 2.1\nName: alpha\nVersion: 1.0\n"),
            record_row(
                "alpha-1.0.dist-info/WHEEL",
                b"Wheel-Version: 1.0\nGenerator: tests\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
            ),
        ],
    )
    before = os.umask(0o077)
    try:
        tree = make(registry.python("alpha", data).node("node_modules/zod", npm("zod")))
    finally:
        os.umask(before)
    modes = {
        (stat.S_IFMT(path.stat().st_mode), stat.S_IMODE(path.stat().st_mode))
        for path in (tree, *tree.rglob("*"))
    }
    assert modes == {(stat.S_IFDIR, 0o755), (stat.S_IFREG, 0o644), (stat.S_IFREG, 0o755)}
    assert stat.S_IMODE((tree / "python/alpha/tool").stat().st_mode) == 0o755
    assert [stat.S_IMODE(path.stat().st_mode) for path in (tree.parent, tree.parents[1])] == [0o711, 0o711]


def test_the_parts_of_a_wheel_that_are_for_a_machine_are_left_out(registry: Registry) -> None:
    data = wheel(
        "alpha",
        {
            "alpha/__init__.py": "",
            "alpha/__pycache__/__init__.cpython-311.pyc": "other code",
            "alpha-1.0.data/purelib/beside.py": "WORD = 'b'\n",
            "alpha-1.0.data/scripts/tool": "#!python\n",
            "alpha-1.0.data/data/etc/passwd": "",
            "alpha-1.0.data/headers/alpha.h": "",
            "alpha-1.0.dist-info/entry_points.txt": "[console_scripts]\ntool = alpha:main\n../evil = os:abort\n",
        },
    )
    files = files_of(make(registry.python("alpha", data)))
    assert {name for name in files if "dist-info" not in name} == {
        "python/alpha/__init__.py",
        "python/beside.py",
    }


def test_a_tree_is_the_same_again_and_another_for_another_platform_or_lock(registry: Registry) -> None:
    registry.python("alpha", wheel("alpha", {"alpha.py": "1"}))
    trees = Trees(registry.directory.parent / "here", registry.blobs)
    first = trees.make(registry.lock, DEBIAN)
    inode = first.stat().st_ino
    assert trees.make(registry.lock, DEBIAN) == first
    assert first.stat().st_ino == inode
    other = trees.make(registry.lock, ALPINE)
    registry.python("beta", wheel("beta", {"beta.py": "2"}))
    assert len({first, other, trees.make(registry.lock, DEBIAN)}) == 3
    assert files_of(first).keys() == files_of(other).keys()


def test_a_lock_that_fits_nothing_here_or_whose_files_are_missing_makes_no_tree(registry: Registry) -> None:
    trees = Trees(registry.directory.parent / "here", registry.blobs)
    lock = registry.python("alpha", wheel("alpha", {"alpha.py": "1"})).lock
    (blob,) = registry.directory.iterdir()
    content = blob.read_bytes()
    blob.unlink()
    with pytest.raises(BlobMissingError, match=r"alpha-1.0-py3-none-any.whl is not on this machine"):
        trees.make(lock, DEBIAN)
    blob.write_bytes(content[:-1] + b"!")
    with pytest.raises(BlobDamagedError, match=r"alpha-1.0-py3-none-any.whl .* is damaged"):
        trees.make(lock, DEBIAN)
    assert not blob.exists()
    with pytest.raises(DoesNotFitError, match=r"the lock is for Python >=3\.12"):
        trees.make(Lock(python=lock.python, requires_python=">=3.12"), DEBIAN)
    assert trees.made() == frozenset()
    assert trees.make(Lock(), Platform()).is_dir()


OUTSIDE = [
    "../evil.py",
    "alpha/../../evil.py",
    "/evil.py",
    "alpha//evil.py",
    "./evil.py",
    "alpha/.",
    "alpha/evil\x01.py",
    "alpha/evil\n.py",
    "alpha/" + "x" * 300 + ".py",
    "/".join(["a"] * 100),
    "x/" * 40 + "y" * 250 + "/" + "z" * 250 + "/" + "y" * 250 + "/" + "z" * 250 + "/evil.py",
]


@pytest.mark.parametrize("name", OUTSIDE)
def test_a_wheel_with_a_name_that_is_none_is_refused(registry: Registry, name: str) -> None:
    assert "alpha: it names a file" in refused(registry.python("alpha", wheel("alpha", {name: "evil"})))


@pytest.mark.parametrize("name", [name for name in OUTSIDE if name != "alpha/."])
def test_a_tarball_with_a_name_that_is_none_is_refused(registry: Registry, name: str) -> None:
    member = tarfile.TarInfo(name if name.startswith("/") else f"package/{name}")
    member.size = 4
    data = tarball({"package.json": "{}"}, also=[(member, b"evil")])
    assert "zod: it names a file" in refused(registry.node("node_modules/zod", data))


def test_a_file_of_a_tarball_without_a_directory_is_refused(registry: Registry) -> None:
    member = tarfile.TarInfo("evil")
    data = tarball({"package.json": "{}"}, also=[(member, b"")])
    assert "zod: it names a file outside of itself, or none" in refused(
        registry.node("node_modules/zod", data)
    )


@pytest.mark.parametrize("kind", [stat.S_IFLNK, stat.S_IFCHR, stat.S_IFBLK, stat.S_IFIFO, stat.S_IFSOCK])
def test_a_wheel_with_a_link_or_a_device_is_refused(registry: Registry, kind: int) -> None:
    member = zipfile.ZipInfo("alpha/evil.py")
    member.external_attr = (kind | 0o777) << 16
    data = wheel("alpha", {"alpha/__init__.py": ""}, also=[(member, b"/etc/shadow")])
    assert "'alpha/evil.py' is a link, or something else" in refused(registry.python("alpha", data))


@pytest.mark.parametrize(
    "kind",
    [
        tarfile.SYMTYPE,
        tarfile.LNKTYPE,
        tarfile.CHRTYPE,
        tarfile.BLKTYPE,
        tarfile.FIFOTYPE,
        tarfile.CONTTYPE,
        tarfile.GNUTYPE_SPARSE,
        b"Z",
    ],
)
def test_a_tarball_with_a_link_or_a_device_is_refused_and_nothing_is_written_through_it(
    registry: Registry, kind: bytes
) -> None:
    member = tarfile.TarInfo("package/evil")
    member.type = kind
    member.linkname = "../../../../evil"
    through = tarfile.TarInfo("package/evil/file")
    data = tarball({"package.json": "{}"}, also=[(member, b""), (through, b"")])
    reason = refused(registry.node("node_modules/zod", data))
    if kind == tarfile.CONTTYPE:
        # It is read as a plain file (tar(5)): then the name is a file's, and a directory's.
        assert "evil is a directory of it, and a file of zod" in reason
    else:
        assert "is a link, or something else" in reason or "no tarball of npm" in reason


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_a_wheel_that_names_a_file_twice_is_refused(registry: Registry) -> None:
    data = wheel("alpha", {"alpha/__init__.py": ""}, also=[("alpha/__init__.py", b"evil")])
    assert "it names 'alpha/__init__.py' twice" in refused(registry.python("alpha", data))


def test_a_tarball_that_names_a_file_twice_is_refused(registry: Registry) -> None:
    data = tarball({"index.js": "1"}, also=[(tarfile.TarInfo("other/index.js"), b"")])
    assert "it names 'node_modules/zod/index.js' twice" in refused(registry.node("node_modules/zod", data))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("alpha/x.py", "alpha/X.py"),
        ("alpha/x/y.py", "alpha/X/z.py"),
        ("alpha/\u00e9.py", "alpha/e\u0301.py"),
        ("alpha/stra\u00dfe.py", "alpha/strasse.py"),
    ],
)
def test_names_that_differ_only_by_case_are_refused(registry: Registry, one: str, other: str) -> None:
    registry.python("alpha", wheel("alpha", {one: "1", other: "2"}))
    assert "differ only by case" in refused(registry)


def test_a_file_that_is_a_directory_as_well_is_refused(registry: Registry) -> None:
    registry.python("alpha", wheel("alpha", {"alpha": "1", "alpha/x.py": "2"}))
    assert "alpha is a directory of it, and a file of alpha" in refused(registry)


def test_a_package_does_not_replace_what_another_has(registry: Registry) -> None:
    registry.python("alpha", wheel("alpha", {"shared/__init__.py": "1"}))
    registry.python("beta", wheel("beta", {"shared/__init__.py": "2"}))
    assert refused(registry) == "beta: alpha has another file with the same name, python/shared/__init__.py"


def test_what_two_packages_have_alike_is_there_once(registry: Registry) -> None:
    registry.python("alpha", wheel("alpha", {"shared/__init__.py": "same", "shared/a.py": ""}))
    registry.python("beta", wheel("beta", {"shared/__init__.py": "same", "shared/b.py": ""}))
    assert {"python/shared/__init__.py", "python/shared/a.py", "python/shared/b.py"} < files_of(
        make(registry)
    ).keys()


def test_a_tarball_does_not_write_into_the_place_of_another_package(registry: Registry) -> None:
    registry.node("node_modules/a", tarball({"package.json": "{}", "node_modules/b/index.js": "evil"}))
    registry.node("node_modules/a/node_modules/b", npm("b"))
    assert "b: a has another file with the same name" in refused(registry)


def rows(*names: str) -> list[str]:
    return [record_row(name, b"") for name in names]


META = [
    record_row("alpha-1.0.dist-info/METADATA", b"Metadata-Version: 2.1\nName: alpha\nVersion: 1.0\n"),
    record_row(
        "alpha-1.0.dist-info/WHEEL",
        b"Wheel-Version: 1.0\nGenerator: tests\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    ),
]


@pytest.mark.parametrize(
    ("record", "said"),
    [
        (
            [*META, record_row("alpha.py", b"other")],
            "'alpha.py' is not what its RECORD says: its hash differs",
        ),
        (
            [*META, record_row("alpha.py", b"code").replace(",4", ",5")],
            "'alpha.py' is not what its RECORD says: its size differs",
        ),
        ([*META], "its RECORD does not name 'alpha.py'"),
        ([*META, "alpha.py,,"], "its RECORD has no hash of 'alpha.py'"),
        ([*META, "alpha.py,md5=abc,4"], "its RECORD has no hash of 'alpha.py'"),
        ([*META, "alpha.py,sha256=abc,four"], "cannot be non-integer"),
        (
            [*META, record_row("alpha.py", b"code"), record_row("gone.py", b"")],
            "its RECORD names 'gone.py', which it does not have",
        ),
        ([*META, *[record_row("alpha.py", b"code")] * 2], "its RECORD names 'alpha.py' twice"),
        ([*META, 'alpha.py,"' + "x" * 200_000 + '",'], "it is no wheel that can be installed"),
        ([*META, "alpha.py"], "it is no wheel that can be installed"),
    ],
)
def test_a_wheel_whose_record_lies_is_refused(registry: Registry, record: list[str], said: str) -> None:
    data = wheel("alpha", {"alpha.py": "code"}, record=record)
    assert said in refused(registry.python("alpha", data))


def test_a_wheel_that_is_none_is_refused(registry: Registry) -> None:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz"):
        pass
    assert "it is no wheel, or a damaged one" in refused(registry.python("alpha", out.getvalue()))


def test_a_wheel_of_another_package_or_without_metadata_is_refused(
    registry: Registry, tmp_path: Path
) -> None:
    assert "doesn't match wheel filename" in refused(registry.python("alpha", wheel("beta", {"b.py": ""})))
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("alpha.py", "")
    other = Registry(tmp_path / "other" / "blobs")
    assert "exactly one .dist-info" in refused(other.python("alpha", out.getvalue()))


def test_a_damaged_wheel_or_tarball_is_refused(registry: Registry, tmp_path: Path) -> None:
    whole = bytearray(wheel("alpha", {"alpha.py": os.urandom(5000)}))
    whole[2000] ^= 1
    assert "damaged" in refused(registry.python("alpha", bytes(whole)))
    cut = npm("zod", {"random": os.urandom(5000).hex()})[:-2000]
    assert "damaged" in refused(Registry(tmp_path / "other" / "blobs").node("node_modules/zod", cut))


def test_a_wheel_that_announces_far_more_than_it_could_hold_is_refused_before_it_is_unpacked(
    registry: Registry,
) -> None:
    data = wheel("alpha", {"alpha.py": bytes(40 * 1024**2)})
    assert len(data) < 100_000
    assert "it holds far more than it could" in refused(registry.python("alpha", data))


def test_a_wheel_that_lies_about_the_size_of_a_file_is_refused(registry: Registry) -> None:
    content = bytes(3 * 1024**2)
    data = wheel("alpha", {"alpha.py": content})
    # Both sizes that the zip tells are made a thousand times smaller than the truth.
    lying = data.replace(len(content).to_bytes(4, "little"), (3000).to_bytes(4, "little"))
    assert lying != data
    assert "damaged" in refused(registry.python("alpha", lying))


def test_a_tarball_that_unpacks_to_far_more_is_refused(registry: Registry) -> None:
    data = tarball({"index.js": bytes(40 * 1024**2)})
    assert "it holds far more than it could" in refused(registry.node("node_modules/zod", data))


def test_a_tarball_of_headers_without_end_is_refused(registry: Registry, tmp_path: Path) -> None:
    empty = tarfile.TarInfo("package/d")
    empty.type = tarfile.DIRTYPE
    many = gzipped(empty.tobuf() * 80_000)
    assert len(many) < 500_000
    assert "the tree would have more than 1000 files" in refused(
        registry.node("node_modules/zod", many), Bounds(files=1000)
    )
    comment = tarfile.TarInfo("package/x")
    comment.type = tarfile.XHDTYPE
    comment.size = 512 * 1024
    text = f"{comment.size} comment=".encode().ljust(comment.size - 1, b"x") + b"\n"
    comments = gzipped((comment.tobuf() + text) * 100)
    assert "it unpacks to over" in refused(
        Registry(tmp_path / "a" / "blobs").node("node_modules/zod", comments)
    )
    header = tarfile.TarInfo("package/x")
    header.type = tarfile.XHDTYPE
    header.size = 2 * 1024**3
    large = gzipped(header.tobuf() + bytes(1024**2))
    assert "a header that is far too large" in refused(
        Registry(tmp_path / "b" / "blobs").node("node_modules/zod", large)
    )
    header.size = 0
    nested = gzipped(header.tobuf() * 20_000)
    assert "headers that no tarball" in refused(
        Registry(tmp_path / "c" / "blobs").node("node_modules/zod", nested)
    )


def test_a_tarball_whose_headers_lead_backwards_ends(registry: Registry) -> None:
    member = tarfile.TarInfo("package/x")
    header = bytearray(member.tobuf())
    # A size below zero, in base 256; and the checksum of that.
    header[124:136] = b"\xff" * 10 + b"\xfc\x00"
    header[148:156] = b" " * 8
    header[148:156] = f"{sum(header):06o}\0 ".encode()
    assert refused(registry.node("node_modules/zod", gzipped(bytes(header) + bytes(1024))))


def test_a_tree_has_no_more_files_and_bytes_than_it_may(registry: Registry, tmp_path: Path) -> None:
    registry.python("alpha", wheel("alpha", {f"a{number}.py": "" for number in range(20)}))
    registry.node("node_modules/zod", npm("zod", {"text": "x" * 5000}))
    assert "more than 22 files" in refused(registry, Bounds(files=22))
    assert "zod: the tree would have more than 4000 bytes" in refused(registry, Bounds(bytes=4000))
