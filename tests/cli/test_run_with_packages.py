"""`ringfence run` and `ringfence check try` with packages: those of a set of the host, in a tree on this machine."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Collection, Iterator
from pathlib import Path
from typing import Any

import pytest
from ringfence.scripts import clear_package_provider
from ringfence.scripts.packages.lock import Lock, LockedFile, PythonPackage
from ringfence_script_packages.commands import tree_here
from ringfence_script_packages.packages.archives import exported, head_of

from tests.cli.conftest import Command
from tests.cli.fake_host import Answer, FakeHost, Request
from tests.packages.archives import wheel
from tests.primitives import requires

pytestmark = requires("user namespaces")

PACKAGES = "/api/script-packages/packages"
WHEEL = wheel("alpha", {"alpha/__init__.py": "version = '1.0'\n"}, version="1.0")
FILE = LockedFile(
    filename="alpha-1.0-py3-none-any.whl", sha256=hashlib.sha256(WHEEL).hexdigest(), size=len(WHEEL)
)
LOCK = Lock(python=(PythonPackage(name="alpha", version="1.0", files=(FILE,)),))
CODE = "import alpha; print('got', alpha.version)"
INLINE = f'# /// script\n# dependencies = ["alpha"]\n# ///\n{CODE}\n'


class Blobs:
    """What a host has stored of the lock."""

    def __init__(self, content: bytes) -> None:
        self._content = content

    async def open(self, sha256: str, *, offset: int = 0) -> AsyncIterator[bytes]:
        yield self._content[offset:]

    async def touch(self, digests: Collection[str]) -> frozenset[str]:
        raise NotImplementedError

    put = stored = delete = touch


def archive(content: bytes = WHEEL, lock: Lock = LOCK) -> bytes:
    async def read() -> bytes:
        head = head_of("web", (), lock, frozenset({FILE.sha256}))
        return b"".join([piece async for piece in exported(head, Blobs(content))])  # type: ignore[arg-type]

    return asyncio.run(read())


def set_of(name: str, **more: Any) -> dict[str, Any]:
    return {"name": name, "lockHash": LOCK.hash, "bytes": FILE.size, "state": "current", **more}


@pytest.fixture
def cache(open_directory: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Where trees are kept here; each command is a process of its own, otherwise."""
    monkeypatch.setattr(tree_here, "cache_directory", lambda: open_directory / "packages")
    yield open_directory / "packages"
    clear_package_provider()


@pytest.fixture
def asked(host: FakeHost) -> list[dict[str, Any]]:
    """A host with the set `web`, and what it was asked of scripts."""
    told: list[dict[str, Any]] = []

    def find(request: Request) -> Answer:
        told.append(request.body)
        return Answer(200, {"set": told[-1]["packages"] or "inline-x"})

    host.on("POST", f"{PACKAGES}/scripts", find)
    for name in ("web", "inline-x"):
        host.on("GET", f"{PACKAGES}/sets/{name}", Answer(200, set_of(name)))
        host.on("GET", f"{PACKAGES}/sets/{name}/archive", Answer(200, raw=archive()))
    return told


@pytest.mark.usefixtures("cache", "asked")
def test_a_run_here_imports_from_the_set_that_is_named(command: Command, host: FakeHost) -> None:
    outcome = command("run", "--packages", "web", "--kind", "python", "--json", "-c", CODE)
    assert outcome.json["stdout"] == "got 1.0\n", outcome
    assert outcome.json["packages"] == {"set": "web", "lock": LOCK.hash}
    clear_package_provider()
    host.on("GET", f"{PACKAGES}/sets/web/archive", Answer(500, {}))
    again = command("run", "--packages", "web", "--kind", "python", "--json", "-c", CODE)
    assert again.json["stdout"] == "got 1.0\n", "what is here is not fetched again"


@pytest.mark.usefixtures("cache")
def test_a_run_and_a_try_here_import_what_the_text_says(
    command: Command, tmp_path: Path, asked: list[dict[str, Any]]
) -> None:
    file = tmp_path / "look.py"
    file.write_text(INLINE)
    assert "got 1.0" in command("run", str(file)).stdout
    assert asked == [{"packages": None, "script": INLINE, "kind": "auto", "name": "look.py"}]
    clear_package_provider()
    assert "got 1.0" in command("check", "try", str(file), "--json").stdout


@pytest.mark.usefixtures("cache", "asked")
def test_a_host_that_refuses_or_is_not_there_is_told(
    command: Command, host: FakeHost, tmp_path: Path
) -> None:
    file = tmp_path / "look.py"
    file.write_text(INLINE)
    detail = "alpha: it is not in the allowlist. Allow it"
    host.on("POST", f"{PACKAGES}/scripts", Answer(422, {"title": "No", "status": 422, "detail": detail}))
    for words in (("run",), ("check", "try")):
        outcome = command(*words, str(file))
        assert outcome.status == 1
        assert "not in the allowlist" in outcome.stderr
        assert "got" not in outcome.stdout


@pytest.mark.usefixtures("cache")
def test_without_a_host_what_the_text_says_cannot_be_had(command: Command, tmp_path: Path) -> None:
    file = tmp_path / "look.py"
    file.write_text(INLINE)
    outcome = command("run", str(file))
    assert outcome.status == 1
    assert "packages, which come from a host" in outcome.stderr
    assert "ringfence up" in outcome.stderr


OTHER = Lock(
    python=(
        PythonPackage(name="alpha", version="1.0", files=(FILE.model_copy(update={"sha256": "0" * 64}),)),
    )
)


@pytest.mark.usefixtures("asked")
@pytest.mark.parametrize(
    ("sent", "said"),
    [
        (archive(b"x" * len(WHEEL)), "hash differs"),
        (archive(lock=OTHER), "has changed meanwhile"),
        (archive()[:1000], "cannot be read"),
        (b"no tar", "cannot be read"),
    ],
)
def test_what_is_not_the_lock_is_not_run(
    command: Command, host: FakeHost, cache: Path, sent: bytes, said: str
) -> None:
    host.on("GET", f"{PACKAGES}/sets/web/archive", Answer(200, raw=sent))
    outcome = command("run", "--packages", "web", "--kind", "python", "-c", CODE)
    assert outcome.status == 125
    assert f"packages are not ready here: {said}" in outcome.stderr or said in outcome.stderr
    assert not list(cache.glob("trees/*"))


@pytest.mark.usefixtures("cache", "asked")
def test_a_set_without_a_lock_is_not_ready(command: Command, host: FakeHost) -> None:
    host.on("GET", f"{PACKAGES}/sets/web", Answer(200, set_of("web", lockHash=None)))
    outcome = command("run", "--packages", "web", "-c", "true")
    assert outcome.status == 125
    assert "the set web is not installed" in outcome.stderr
