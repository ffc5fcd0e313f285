"""A set as a file, for a host without internet: taken in as a whole, and only as what it says."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
from ringfence.host import Host
from ringfence.testing import client
from ringfence_script_packages.addresses import PACKAGES
from sqlalchemy import text

from tests.script_packages.packages.conftest import SETS, Packages
from tests.script_packages.packages.registry import Registry
from tests.script_packages.packages.test_blobs import count

IMPORT = f"{PACKAGES}/import"


@pytest.fixture
async def archive(packages: Packages, registry: Registry) -> bytes:
    """An archive of the set `forms`, which is deleted afterwards with all that it had."""
    registry.has["large"] = [("1.0", 3 * 1024 * 1024 + 1)]
    await packages.allow("alpha>=1", "large", set="forms")
    await packages.install("forms")
    answer = await packages.http.get(f"{SETS}/forms/archive")
    assert answer.status_code == 200
    return answer.content


@pytest.fixture
async def empty(packages: Packages, archive: bytes, host: Host) -> Packages:
    """The host with nothing of it any more, and without a registry that has it."""
    await packages.http.delete(f"{SETS}/forms")
    async with host.runtime.database.sessions.begin() as session:
        for table in ("lock_files", "locks", "blobs", "chunks", "uploads"):
            await session.execute(text(f"DELETE FROM script_packages_{table}"))
    return packages


def members(archive: bytes) -> dict[str, bytes]:
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        return {one.name: tar.extractfile(one).read() for one in tar}  # type: ignore[union-attr]


def packed(members: dict[str, bytes], **kinds: bytes) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            info.type = kinds.get(name, tarfile.REGTYPE)
            tar.addfile(info, io.BytesIO(content))
    return file.getvalue()


async def test_any_tar_can_read_it(archive: bytes) -> None:
    found = members(archive)
    head = json.loads(found.pop("ringfence-packages.json"))
    assert head["set"] == "forms"
    assert [one["text"] for one in head["requirements"]] == ["alpha>=1", "large"]
    assert set(found) == {f"blobs/{sha256}" for sha256 in head["blobs"]}
    assert sorted(map(len, found.values())) == [3000, 3 * 1024 * 1024 + 1]


async def test_what_was_taken_in_can_be_installed_without_a_registry(
    archive: bytes, empty: Packages, registry: Registry
) -> None:
    registry.has.clear()
    asked = len(registry.asked)
    answer = await empty.http.post(IMPORT, content=archive)
    assert answer.status_code == 200, answer.text
    state = await empty.show("forms")
    assert (state["state"], state["lockHash"]) == ("current", answer.json()["lockHash"])
    [platform] = state["platforms"]
    assert platform["storedBytes"] == platform["bytes"] > 3_000_000
    entries = (await empty.http.get(f"{PACKAGES}/entries")).json()["entries"]
    assert [(one["requirement"], one["reason"]) for one in entries] == [
        ("alpha>=1", "imported"),
        ("large", "imported"),
    ]
    assert (await empty.install("forms"))["lockHash"] == state["lockHash"]
    assert len(registry.asked) == asked
    again = await empty.http.get(f"{SETS}/forms/archive")
    assert members(again.content).keys() == members(archive).keys()


async def test_it_may_become_another_set(archive: bytes, packages: Packages) -> None:
    answer = await packages.http.post(IMPORT, content=archive, params={"set": "other"})
    assert answer.json()["set"] == "other"
    assert (await packages.show("other"))["lockHash"] == (await packages.show("forms"))["lockHash"]


def cut(archive: bytes) -> bytes:
    return archive[: len(archive) // 2]


def spoiled(archive: bytes) -> bytes:
    found = members(archive)
    name = next(name for name in found if name.startswith("blobs/"))
    found[name] = b"x" + found[name][1:]
    return packed(found)


def longer(archive: bytes) -> bytes:
    found = members(archive)
    name = next(name for name in found if name.startswith("blobs/"))
    found[name] += b"x"
    return packed(found)


def linked(archive: bytes) -> bytes:
    found = members(archive)
    name = next(name for name in found if name.startswith("blobs/"))
    return packed(found, **{name: tarfile.SYMTYPE})


def misplaced(archive: bytes) -> bytes:
    found = members(archive)
    name = next(name for name in found if name.startswith("blobs/"))
    content = found.pop(name)
    return packed({**found, "../../etc/passwd": content})


def with_head(archive: bytes, **changed: Any) -> bytes:
    found = members(archive)
    head = json.loads(found["ringfence-packages.json"])
    return packed({**found, "ringfence-packages.json": json.dumps({**head, **changed}).encode()})


def blobs_of(archive: bytes) -> list[str]:
    return list(json.loads(members(archive)["ringfence-packages.json"])["blobs"])


WRONG: list[tuple[Callable[[bytes], bytes], str]] = [
    (cut, "ends too early"),
    (spoiled, "SHA-256"),
    (longer, "should follow, with"),
    (linked, "no plain file"),
    (misplaced, "should follow"),
    (lambda _: b"", "ends too early"),
    (lambda _: bytes(2000), "no tar archive"),
    (lambda _: packed({"other": b"x"}), "no archive that"),
    (lambda archive: with_head(archive, lockHash="0" * 64), "not the one that it says"),
    (lambda archive: with_head(archive, blobs=["0" * 64]), "does not name"),
    (lambda archive: with_head(archive, format=2), "is not valid"),
    (lambda archive: with_head(archive, set="../x"), "is not valid"),
    (
        lambda archive: with_head(
            archive, requirements=[{"ecosystem": "pypi", "text": "x @ https://a.invalid"}]
        ),
        "cannot be allowed",
    ),
]


async def test_what_is_not_what_it_says_changes_nothing(archive: bytes, empty: Packages, host: Host) -> None:
    for made, said in WRONG:
        answer = await empty.http.post(IMPORT, content=made(archive))
        assert answer.status_code == 422, said
        assert said in answer.json()["detail"]
        assert (await empty.http.get(SETS)).json()["sets"] == []
        assert await count(host, "uploads") == await count(host, "blobs")


WRONG_AND_STORED: list[tuple[Callable[[bytes], bytes], str]] = [
    (spoiled, "SHA-256"),
    (lambda archive: with_head(archive, blobs=blobs_of(archive) * 2), "holds a file twice"),
    (lambda archive: archive + b"x", "more follows"),
    (lambda archive: archive + bytes(2 * 1024 * 1024), "more follows"),
    (lambda archive: packed({**members(archive), "one-more": b"x"}), "more follows"),
    (lambda archive: archive[:-1024], "ends too early"),
]


async def test_an_archive_is_judged_alike_where_its_files_are_stored_already(
    archive: bytes, packages: Packages
) -> None:
    assert (await packages.http.post(IMPORT, content=archive)).status_code == 200
    for made, said in WRONG_AND_STORED:
        answer = await packages.http.post(IMPORT, content=made(archive), params={"set": "other"})
        assert answer.status_code == 422, said
        assert said in answer.json()["detail"]
        names = [one["name"] for one in (await packages.http.get(SETS)).json()["sets"]]
        assert "other" not in names


async def test_nobody_who_may_not_is_read_at_all(host: Host) -> None:
    read = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal read
        while read < 100:
            read += 1
            yield bytes(1024 * 1024)

    async with client(host, rules=["script-packages.package.read"]) as reader:
        assert (await reader.post(IMPORT, content=endless())).status_code == 403
    assert read < 3


async def test_more_than_a_set_may_have_is_refused_whether_it_is_stored_or_not(
    archive: bytes,
    empty: Packages,
    monkeypatch: pytest.MonkeyPatch,
    registry: Registry,
    another: Callable[[], Awaitable[Host]],
) -> None:
    without_files = packed(
        {"ringfence-packages.json": members(with_head(archive, blobs=[]))["ringfence-packages.json"]}
    )
    monkeypatch.setenv("RINGFENCE_SCRIPT_PACKAGES_MAX_SET_MIB", "1")
    async with client(await another()) as small:
        refused = await small.post(IMPORT, content=archive)
        assert (await empty.http.post(IMPORT, content=archive)).status_code == 200
        stored = await small.post(IMPORT, content=without_files, params={"set": "other"})
    for answer in (refused, stored):
        assert answer.status_code == 422
        assert "RINGFENCE_SCRIPT_PACKAGES_MAX_SET_MIB" in answer.json()["detail"]


async def test_a_set_that_was_never_installed_cannot_be_exported(packages: Packages) -> None:
    await packages.allow("alpha")
    answer = await packages.http.get(f"{SETS}/default/archive")
    assert answer.status_code == 409
    assert "was never installed" in answer.json()["detail"]
