"""The packages of an agent: fetched piece by piece, kept when it is cut off, and never believed by their name."""

from __future__ import annotations

import asyncio
import hashlib
import importlib.util
import json
import os
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import ringfence
from ringfence.scripts import NotReady, PackageTree
from ringfence.scripts.packages.lock import Lock, LockedFile
from ringfence.testing import PluginFactory
from ringfence.web import TextMessage
from ringfence_satellite.agent.packages.kept import Packages
from ringfence_satellite.plugin import SatellitePlugin
from ringfence_satellite.protocol import MAX_PACKAGE_PIECE, ScriptPackagePiece, ScriptPackageSyncState
from ringfence_satellite.server.connections.outbox import MAX_PIECES, Outbox
from ringfence_script_packages.packages.ports import OfferedLock
from ringfence_script_packages.plugin import ScriptPackagesPlugin

from tests.escapes import reach
from tests.packages.archives import Registry as Archives
from tests.packages.archives import wheel
from tests.packages.machines import DEBIAN
from tests.primitives import requires
from tests.satellite.instances import Instance
from tests.satellite.test_agent_process import agent
from tests.script_packages.packages.conftest import SETS
from tests.script_packages.packages.conftest import Packages as Administrator
from tests.script_packages.packages.registry import Registry
from tests.waiting import PATIENCE_SECONDS, until, until_it

WHEEL = wheel(
    "greeting", {"greeting/__init__.py": "WORD = 'hello'\n", "greeting/much": bytes(range(256)) * 2000}
)


class ScriptedHost:
    """Answers requests for pieces of one lock, and cuts the connection or lies where a test wants it."""

    def __init__(self, directory: Path) -> None:
        archives = Archives(directory)
        # Twice a piece and more, whatever compression makes of it.
        much = b"".join(hashlib.sha256(bytes([n % 256, n // 256])).digest() for n in range(6000))
        files: dict[str, bytes | str] = {"greeting/__init__.py": "WORD = 'hello'\n", "greeting/much": much}
        archives.python("greeting", wheel("greeting", files))
        self.lock: Lock = archives.lock
        self.offered = OfferedLock.of(archives.lock)
        [self.file] = archives.lock.files
        with archives.blobs.open(self.file) as stream:
            self.content = stream.read()
        self.asked: list[int] = []
        self.states: list[ScriptPackageSyncState] = []
        self.cuts_at: int | None = None
        self.changes: Callable[[bytes], bytes] = lambda piece: piece

    @asynccontextmanager
    async def connected(self, packages: Packages) -> AsyncIterator[asyncio.Event]:
        """A connection; the event says that it is cut."""
        cut = asyncio.Event()

        async def send(text: str) -> bool:
            asked = json.loads(text)
            if asked["type"] == "request_script_package_manifest":
                source = self.offered.content
            else:
                source = self.content
                self.asked.append(asked["offset"])
                if self.cuts_at is not None and asked["offset"] >= self.cuts_at:
                    cut.set()
                    return True
            piece = source[asked["offset"] : asked["offset"] + MAX_PACKAGE_PIECE]
            if source is self.content:
                piece = self.changes(piece)
            packages.answered(ScriptPackagePiece.of(asked["requestId"], piece, len(source)))
            return True

        with packages.connected(send):
            yield cut


@pytest.fixture
def scripted(tmp_path: Path) -> ScriptedHost:
    return ScriptedHost(tmp_path / "there")


@pytest.fixture
async def kept(open_directory: Path) -> AsyncIterator[Packages]:
    packages = Packages(open_directory / "here", DEBIAN)
    keeping = asyncio.create_task(packages.keep())
    yield packages
    keeping.cancel()
    await asyncio.wait([keeping])


async def provided(packages: Packages) -> PackageTree:
    """The tree of the default set, once it is there."""

    async def look() -> PackageTree | None:
        found = await packages.provide("default")
        return found if isinstance(found, PackageTree) else None

    found = await until_it(look, "the tree is made")
    assert found is not None
    return found


async def refusal(packages: Packages) -> str:
    """Why the default set is not here."""
    found = await packages.provide("default")
    assert isinstance(found, NotReady)
    return found.reason


async def test_what_was_cut_goes_on_where_it_ended(scripted: ScriptedHost, kept: Packages) -> None:
    assert len(scripted.content) > 2 * MAX_PACKAGE_PIECE
    scripted.cuts_at = MAX_PACKAGE_PIECE
    async with scripted.connected(kept) as cut:
        kept.want({"default": scripted.lock.hash})
        await asyncio.wait_for(cut.wait(), 60)
        assert await refusal(kept) == "0 of 1 MiB"
    scripted.cuts_at = None
    async with scripted.connected(kept):
        kept.want({"default": scripted.lock.hash})
        with (await provided(kept)).pin as pin:
            assert (pin.path / "python/greeting/__init__.py").read_text() == "WORD = 'hello'\n"
    assert scripted.asked.count(0) == 1, "nothing is fetched twice"


async def test_pieces_that_lie_make_no_tree(scripted: ScriptedHost, kept: Packages) -> None:
    async with scripted.connected(kept):
        for lie, told in (
            (lambda piece: b"\0" * len(piece), "hash differs"),
            (lambda piece: (piece + b"x")[:MAX_PACKAGE_PIECE], "is longer than its"),
            (lambda _: b"", "0 bytes at once"),
        ):
            scripted.changes = lie
            kept.want({"default": scripted.lock.hash})

            async def refused(told: str = told) -> bool:
                return told in await refusal(kept)

            await until_it(refused, told)
        scripted.changes = lambda piece: piece
        kept.want({"default": scripted.lock.hash})
        (await provided(kept)).pin.close()


async def test_the_host_is_told_how_far_it_is(scripted: ScriptedHost, kept: Packages) -> None:
    told: list[dict[str, Any]] = []

    async def send(text: str) -> bool:
        told.append(json.loads(text))
        return True

    telling = asyncio.create_task(kept.tell(send))
    kept.want({"default": scripted.lock.hash})
    await until(lambda: told[-1]["state"] == "error" and "no connection" in told[-1]["error"])
    async with scripted.connected(kept):
        kept.want({"default": scripted.lock.hash})
        await until(lambda: told[-1]["state"] == "ready")
    telling.cancel()
    await asyncio.wait([telling])
    size = len(scripted.content)
    assert (told[-1]["bytes"], told[-1]["total"]) == (size, size)


async def test_a_host_that_knows_no_packages_takes_none_away(scripted: ScriptedHost, kept: Packages) -> None:
    kept.want_nothing_unless_kept()
    assert await kept.provide("default") is None
    async with scripted.connected(kept):
        kept.want({"default": scripted.lock.hash})
        (await provided(kept)).pin.close()
    kept.want_nothing_unless_kept()
    (await provided(kept)).pin.close()


def test_a_policy_leaves_before_pieces_of_packages_that_wait() -> None:
    outbox = Outbox()
    outbox.welcome(TextMessage("welcome"), None)
    pieces = [TextMessage(f"piece {n}") for n in range(MAX_PIECES)]
    assert all(map(outbox.piece, pieces))
    assert not outbox.piece(TextMessage("one too many"))
    outbox.packages(TextMessage("sets"))
    outbox.put(TextMessage("other"))
    outbox.policy(TextMessage("policy"), 1)
    left = []
    message = outbox.peek()
    while message is not None:
        left.append(message.text)
        message = outbox.sent(message)
    assert left == ["welcome", "policy", "sets", "other", *(piece.text for piece in pieces)]


async def test_a_directory_that_scripts_cannot_reach_is_named_with_what_to_do(
    scripted: ScriptedHost, tmp_path: Path
) -> None:
    tmp_path.chmod(0o700)
    packages = Packages(tmp_path / "here", DEBIAN, other_user=True)
    packages.want({"default": scripted.lock.hash})
    keeping = asyncio.create_task(packages.keep())

    async def named() -> bool:
        return f"chmod o+x {tmp_path}" in await refusal(packages)

    await until_it(named, "the refusal names the directory")
    keeping.cancel()
    await asyncio.wait([keeping])


class Wheels(Registry):
    """A registry whose one package can really be imported."""

    def file(self, name: str, version: str, size: int) -> LockedFile:
        return LockedFile(
            filename=f"{name}-{version}-py3-none-any.whl",
            sha256=hashlib.sha256(WHEEL).hexdigest(),
            size=len(WHEEL),
        )

    async def fetch(self, file: LockedFile) -> AsyncIterator[bytes]:
        yield WHEEL


@pytest.fixture
def plugins_under_test() -> PluginFactory:
    registry = Wheels({"greeting": [("1.0", len(WHEEL))]})
    return lambda: [ScriptPackagesPlugin(resolver=registry, fetcher=registry), SatellitePlugin()]


@requires("user namespaces")
@pytest.mark.slow
async def test_a_script_on_a_satellite_imports_what_was_installed(
    instance: Instance, open_directory: Path
) -> None:
    administrator = Administrator(instance.api)
    await administrator.allow("greeting")
    await administrator.allow("greeting", set="forms")
    lock = (await administrator.install())["lockHash"]
    await administrator.install("forms")
    satellite = await instance.register()
    async with agent(instance, satellite, open_directory):

        async def ready() -> bool:
            held = (await instance.api.get(f"{SETS}/default")).json()["held"]
            return bool(held == {"counts": {"ready": 1}, "lacking": []})

        await until_it(ready, "the set is on the satellite")
        script = "import greeting; print(greeting.WORD)"
        result = (await instance.run(satellite, kind="python", script=script))["result"]
        assert (result["exitCode"], result["stdout"]) == (0, "hello\n"), result
        assert result["packages"] == {"set": "default", "lock": lock}

        async def of_the_other_set() -> bool:
            run = await instance.run(satellite, kind="python", script=script, packages="forms")
            assert run["result"]["exitCode"] == 0 or "packages are not ready here" in str(run["result"]), run
            return bool((run["result"]["packages"] or {}).get("set") == "forms")

        await until_it(of_the_other_set, "a run has brought its set")


_AGENT = "import typer; from ringfence_satellite.agent.command import agent; typer.run(agent)"
_IMPORTS = """
import json, sys
import ringfence_satellite.agent.command, ringfence_satellite.agent.process
from ringfence_satellite.agent.delivering import spool
print(json.dumps(sorted({name.partition(".")[0] for name in sys.modules})))
"""


def copied(to: Path) -> dict[str, str]:
    """The agent with all that it imports, where another user can read it; the environment that has it found."""
    reach.copy_package(to)
    asked = subprocess.run([sys.executable, "-c", _IMPORTS], capture_output=True, text=True, check=True)
    for name in json.loads(asked.stdout):
        spec = (
            importlib.util.find_spec(name)
            if name not in sys.stdlib_module_names and name != "__main__"
            else None
        )
        origin = (
            Path(spec.origin) if spec is not None and spec.origin and os.path.isabs(spec.origin) else None
        )
        if origin is None or name == "ringfence":
            continue
        if origin.name == "__init__.py":
            shutil.copytree(origin.parent, to / name, dirs_exist_ok=True)
        else:
            shutil.copy(origin, to / origin.name)
    shutil.copytree(Path(ringfence.__file__).parent, to / "ringfence", dirs_exist_ok=True)
    (to / "ringfence-1.dist-info").mkdir()
    (to / "ringfence-1.dist-info/METADATA").write_text("Metadata-Version: 2.1\nName: ringfence\nVersion: 1\n")
    subprocess.run(["chmod", "-R", "a+rX", str(to)], check=True)
    return reach.environment(to)


@requires("user namespaces", "root")
@pytest.mark.slow
async def test_an_agent_that_is_not_root_has_packages_and_its_scripts_import_them(
    instance: Instance, open_directory: Path
) -> None:
    code, state = open_directory / "code", open_directory / "state"
    code.mkdir()
    environment = copied(code)
    python = reach.reachable_python(code)
    assert python is not None
    administrator = Administrator(instance.api)
    await administrator.allow("greeting")
    lock = (await administrator.install())["lockHash"]
    satellite = await instance.register()
    state.mkdir()
    token = state / "token"
    token.write_text(satellite.token)
    token.chmod(0o600)
    for path in (state, token):
        os.chown(path, reach.OTHER_UID, reach.OTHER_UID)
    process = await asyncio.create_subprocess_exec(
        *(python, "-c", _AGENT, "--url", instance.url),
        *("--client-id", satellite.id, "--token-file", str(token), "--state-dir", str(state)),
        env=environment,
        cwd="/",
        user=reach.OTHER_UID,
        group=reach.OTHER_UID,
        extra_groups=[],
    )
    try:

        async def ready() -> bool:
            assert process.returncode is None
            held = (await instance.api.get(f"{SETS}/default")).json()["held"]
            return bool(held == {"counts": {"ready": 1}, "lacking": []})

        await until_it(ready, "the set is on the satellite")
        script = "import greeting, os; print(greeting.WORD, os.access('/packages/python', os.W_OK))"
        result = (await instance.run(satellite, kind="python", script=script))["result"]
        assert (result["exitCode"], result["stdout"]) == (0, "hello False\n"), result
        assert result["packages"] == {"set": "default", "lock": lock}
    finally:
        if process.returncode is None:
            process.terminate()
        await asyncio.wait_for(process.wait(), PATIENCE_SECONDS)
