"""Files are fetched as the lock has them, from whoever has them, and from nobody else."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from ringfence.scripts.packages.lock import LockedFile
from ringfence_script_packages.packages.errors import PackagesError, Why
from ringfence_script_packages.packages.resolving import client as client_module
from ringfence_script_packages.packages.resolving import fetching
from ringfence_script_packages.packages.resolving.client import RegistryClient
from ringfence_script_packages.packages.resolving.fetching import FileFetcher
from ringfence_script_packages.packages.resolving.registries import Registries
from ringfence_script_packages.packages.resolving.registries import Registry as RegistryAddress

from tests.script_packages.resolving.conftest import registries_for
from tests.script_packages.resolving.registry import Answer, Registry, Request

CONTENT = bytes(range(256)) * 4096
"""A mebibyte, which comes in several pieces."""


def locked(url: str | None, content: bytes = CONTENT, **but: Any) -> LockedFile:
    told = {"sha256": hashlib.sha256(content).hexdigest(), "size": len(content), **but}
    return LockedFile(filename="a-1.0-py3-none-any.whl", url=url, **told)


async def fetched(registries: Registries, file: LockedFile) -> bytes:
    client = RegistryClient(registries)
    try:
        return b"".join([piece async for piece in FileFetcher(client).fetch(file)])
    finally:
        await client.aclose()


async def refused(registries: Registries, file: LockedFile) -> PackagesError:
    with pytest.raises(PackagesError) as raised:
        await fetched(registries, file)
    return raised.value


async def test_a_file_is_what_the_lock_says(registry: Registry) -> None:
    registry.answers["/a.whl"] = Answer(CONTENT)
    assert await fetched(registries_for(registry), locked(f"{registry.url}/a.whl")) == CONTENT


async def test_another_file_of_the_same_size_is_refused_before_its_end_is_given(registry: Registry) -> None:
    registry.answers["/a.whl"] = Answer(CONTENT[:-1] + b"!")
    client, given = RegistryClient(registries_for(registry)), list[bytes]()

    async def read() -> None:
        async for piece in FileFetcher(client).fetch(locked(f"{registry.url}/a.whl")):
            given.append(piece)

    with pytest.raises(PackagesError) as raised:
        await read()
    await client.aclose()
    assert raised.value.why is Why.HASH_DIFFERS
    assert "SHA-256 differs" in raised.value.message
    assert len(b"".join(given)) < len(CONTENT)


async def test_a_file_that_is_too_short_is_refused(registry: Registry) -> None:
    registry.answers["/a.whl"] = Answer(CONTENT[:-1])
    error = await refused(registries_for(registry), locked(f"{registry.url}/a.whl"))
    assert (error.why, "bytes, not" in error.message) == (Why.HASH_DIFFERS, True)


async def test_a_body_without_an_end_is_read_no_further_than_the_file_is_long(registry: Registry) -> None:
    sent = itertools.count()

    def endless() -> Any:
        while next(sent) < 100_000:
            yield bytes(64 * 1024)

    registry.answers["/a.whl"] = Answer(endless())
    error = await refused(registries_for(registry), locked(f"{registry.url}/a.whl"))
    assert error.why is Why.TOO_LARGE
    assert next(sent) < 10_000


async def test_a_broken_connection_is_taken_up_where_it_broke(
    registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fetching, "PAUSE_SECONDS", 0.01)

    def answer(request: Request) -> Answer:
        start = int(request.headers.get("range", "bytes=0-").removeprefix("bytes=").removesuffix("-"))
        cut = 300_000 if start == 0 else None
        headers = {"content-range": f"bytes {start}-{len(CONTENT) - 1}/{len(CONTENT)}"} if start else {}
        return Answer(CONTENT[start:], 206 if start else 200, headers=headers, cut=cut)

    registry.answers["/a.whl"] = answer
    assert await fetched(registries_for(registry), locked(f"{registry.url}/a.whl")) == CONTENT
    ranges = [each.headers.get("range") for each in registry.requests]
    assert len(ranges) == 2
    assert ranges[0] is None
    assert ranges[1] not in (None, "bytes=0-")


async def test_a_server_without_ranges_is_asked_for_the_whole_again(
    registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fetching, "PAUSE_SECONDS", 0.01)
    cuts = iter([300_000, None])
    registry.answers["/a.whl"] = lambda _: Answer(CONTENT, cut=next(cuts))
    assert await fetched(registries_for(registry), locked(f"{registry.url}/a.whl")) == CONTENT


async def test_a_server_that_breaks_again_and_again_is_given_up(
    registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fetching, "PAUSE_SECONDS", 0.01)
    registry.answers["/a.whl"] = Answer(CONTENT, cut=10)
    error = await refused(registries_for(registry), locked(f"{registry.url}/a.whl"))
    assert error.why is Why.UNREACHABLE
    assert len(registry.requests) == fetching.ATTEMPTS


async def test_a_version_that_has_vanished_is_told_with_what_to_do(registry: Registry) -> None:
    error = await refused(registries_for(registry), locked(f"{registry.url}/a.whl"))
    assert error.why is Why.NOT_FOUND
    assert error.package == "a-1.0-py3-none-any.whl"
    assert "install --upgrade" in (error.hint or "")


async def test_a_lock_that_does_not_say_where_a_file_is_cannot_be_fetched(registry: Registry) -> None:
    error = await refused(registries_for(registry), locked(None))
    assert error.why is Why.NOT_FOUND


async def test_a_host_without_tls_that_is_no_registry_is_not_asked(
    registry: Registry, other: Registry
) -> None:
    other.answers["/a.whl"] = Answer(CONTENT)
    error = await refused(registries_for(registry), locked(f"{other.url}/a.whl"))
    assert "it is not https" in error.message
    assert other.requests == []


async def test_a_redirect_to_a_host_without_tls_is_not_followed(registry: Registry, other: Registry) -> None:
    other.answers["/a.whl"] = Answer(CONTENT)
    registry.answers["/a.whl"] = Answer(status=302, headers={"location": f"{other.url}/a.whl"})
    error = await refused(registries_for(registry), locked(f"{registry.url}/a.whl"))
    assert "it is not https" in error.message
    assert other.requests == []


@pytest.mark.parametrize(
    "place", ["file:///etc/passwd", "ftp://127.0.0.1/x", "https://a:b@127.0.0.1/x", "https://["]
)
async def test_a_redirect_to_no_place_of_the_web_is_not_followed(registry: Registry, place: str) -> None:
    registry.answers["/a.whl"] = Answer(status=302, headers={"location": place})
    error = await refused(registries_for(registry), locked(f"{registry.url}/a.whl"))
    assert "a place that is not asked" in error.message


async def test_redirects_come_to_an_end(registry: Registry) -> None:
    registry.answers["/a.whl"] = Answer(status=302, headers={"location": "/a.whl"})
    error = await refused(registries_for(registry), locked(f"{registry.url}/a.whl"))
    assert "redirects more than 5 times" in error.message
    assert len(registry.requests) == client_module.MOST_REDIRECTS + 1


async def test_a_credential_goes_to_its_registry_and_not_on_with_a_redirect(
    registry: Registry, file_host: Registry
) -> None:
    registry.password = "Bearer sesame"
    registry.answers["/a.whl"] = Answer(status=302, headers={"location": f"{file_host.url}/a.whl"})
    file_host.answers["/a.whl"] = Answer(CONTENT)
    registries = Registries(python=(RegistryAddress(f"{registry.url}/simple", "Bearer sesame"),))
    assert await fetched(registries, locked(f"{registry.url}/a.whl")) == CONTENT
    assert [each.headers.get("authorization") for each in registry.requests] == ["Bearer sesame"]
    assert [each.headers.get("authorization") for each in file_host.requests] == [None]


@pytest.mark.slow
async def test_a_host_whose_certificate_nobody_trusts_is_not_believed(
    registry: Registry, file_host: Registry, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("SSL_CERT_FILE")
    error = await refused(registries_for(registry), locked(f"{file_host.url}/a.whl"))
    assert (error.why, "its certificate is not trusted" in error.message) == (Why.UNREACHABLE, True)
    assert file_host.requests == []


async def test_a_wrong_credential_is_told_without_it(registry: Registry) -> None:
    registry.password = "Bearer right"
    registries = Registries(python=(RegistryAddress(f"{registry.url}/simple", "Bearer wrong-one"),))
    error = await refused(registries, locked(f"{registry.url}/a.whl?token=in-the-address"))
    assert error.why is Why.REFUSED
    assert "wrong-one" not in f"{error!r}{error.to_wire()}{registries!r}"
    assert "in-the-address" not in f"{error!r}{error.to_wire()}"


async def test_nobody_there_is_told(registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetching, "PAUSE_SECONDS", 0.01)
    gone = Registry()
    gone._server.server_close()
    error = await refused(registries_for(gone), locked(f"{gone.url}/a.whl"))
    assert error.why is Why.UNREACHABLE


@pytest.fixture
def local(tmp_path: Path) -> Registries:
    (tmp_path / "root/simple/a").mkdir(parents=True)
    (tmp_path / "root/files").mkdir()
    (tmp_path / "root/files/a.whl").write_bytes(CONTENT)
    (tmp_path / "outside.whl").write_bytes(CONTENT)
    return Registries(python=(RegistryAddress((tmp_path / "root/simple").as_uri()),))


async def test_a_file_of_an_index_of_this_machine_is_read(local: Registries, tmp_path: Path) -> None:
    assert await fetched(local, locked((tmp_path / "root/files/a.whl").as_uri())) == CONTENT


def _link(place: Path) -> None:
    (place / "root/files/b.whl").symlink_to(place / "outside.whl")


@pytest.mark.parametrize(
    ("prepare", "path"),
    [
        (None, "outside.whl"),
        (None, "root/files/../../outside.whl"),
        (_link, "root/files/b.whl"),
        (None, "root/files"),
    ],
)
async def test_no_other_file_of_this_machine_is_read(
    local: Registries, tmp_path: Path, prepare: Callable[[Path], None] | None, path: str
) -> None:
    if prepare is not None:
        prepare(tmp_path)
    error = await refused(local, locked(f"{tmp_path.as_uri()}/{path}"))
    assert error.why in (Why.FAILED, Why.NOT_FOUND)


async def test_files_are_read_only_for_an_index_of_this_machine(registry: Registry, tmp_path: Path) -> None:
    (tmp_path / "a.whl").write_bytes(CONTENT)
    error = await refused(registries_for(registry), locked((tmp_path / "a.whl").as_uri()))
    assert "no registry of this machine holds" in error.message


async def test_only_so_many_files_come_at_once(registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetching, "AT_ONCE", 2)
    registry.answers["/a.whl"] = Answer(CONTENT)
    client = RegistryClient(registries_for(registry))
    fetcher = FileFetcher(client)
    streams: list[AsyncIterator[bytes]] = [fetcher.fetch(locked(f"{registry.url}/a.whl")) for _ in range(3)]
    for stream in streams[:2]:
        await anext(stream)
    assert fetcher._places.locked()
    for stream in streams:
        await stream.aclose()  # type: ignore[attr-defined]
    assert not fetcher._places.locked()
    await client.aclose()
