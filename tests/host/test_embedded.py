"""The embedded PostgreSQL: it starts, it stops, and it never outlives the host, whoever runs it."""

from __future__ import annotations

import asyncio
import os
import pwd
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
import ringfence
from ringfence.storage.embedded import EmbeddedPostgres, EmbeddedPostgresError
from ringfence.testing import make_reachable_directory

from tests.primitives import requires
from tests.waiting import in_time, until

NOBODY = pwd.getpwnam("nobody")
"""Somebody who is not root, to be a host as. (initdb asks that the user have an account.)"""


@pytest.fixture
def directory() -> Iterator[Path]:
    made = make_reachable_directory()
    yield made
    shutil.rmtree(made)


def embedded(directory: Path) -> EmbeddedPostgres:
    return EmbeddedPostgres(directory / "postgres", options={"fsync": "off"})


async def query(server: EmbeddedPostgres, statement: str) -> object:
    connection = await psycopg.AsyncConnection.connect(server.url.replace("+psycopg", ""), autocommit=True)
    async with connection:
        cursor = await connection.execute(statement)
        return (await cursor.fetchone() or (None,))[0] if cursor.description else None


def server_pid(directory: Path) -> int:
    return int((directory / "postgres" / "postmaster.pid").read_text().splitlines()[0])


async def until_gone(pid: int) -> None:
    """Return once no process has that id (a pidfd becomes readable when its process ends)."""
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    loop = asyncio.get_running_loop()
    ended = asyncio.Event()
    loop.add_reader(descriptor, ended.set)
    try:
        async with in_time("the process ends"):
            await ended.wait()
    finally:
        loop.remove_reader(descriptor)
        os.close(descriptor)


async def test_it_starts_stops_and_starts_again_on_the_same_data(directory: Path) -> None:
    server = embedded(directory)
    await server.start()
    pid = server_pid(directory)
    await query(server, "CREATE TABLE kept AS SELECT 7 AS number")
    await server.stop()
    await until_gone(pid)
    await server.stop()
    again = embedded(directory)
    await again.start()
    try:
        assert await query(again, "SELECT number FROM kept") == 7
    finally:
        await again.stop()


async def test_nobody_else_can_enter_the_data_or_the_socket_and_there_is_no_tcp(directory: Path) -> None:
    server = embedded(directory)
    await server.start()
    try:
        for inside in (directory / "postgres", directory / "postgres-socket"):
            assert inside.stat().st_mode & 0o777 == 0o700
        assert await query(server, "SHOW listen_addresses") == ""
    finally:
        await server.stop()


@requires("root")
async def test_under_root_the_server_is_a_user_of_its_own_and_not_the_scripts_one(directory: Path) -> None:
    server = embedded(directory)
    await server.start()
    try:
        status = Path(f"/proc/{server_pid(directory)}/status").read_text()
        [uids] = [line.split()[1:] for line in status.splitlines() if line.startswith("Uid:")]
        assert len(set(uids)) == 1
        assert int(uids[0]) not in {0, 65532, 65534}
        [groups] = [line.split()[1:] for line in status.splitlines() if line.startswith("Groups:")]
        assert "0" not in groups
    finally:
        await server.stop()


HOST = """
import asyncio, sys
from pathlib import Path
from ringfence.storage.embedded import EmbeddedPostgres
import psycopg

async def main():
    server = EmbeddedPostgres(Path(sys.argv[1]))
    await server.start()
    async with await psycopg.AsyncConnection.connect(server.url.replace("+psycopg", "")) as connection:
        if len(sys.argv) > 2:
            await connection.execute(sys.argv[2])
            await connection.commit()
        print("ready", flush=True)
        await asyncio.Event().wait()

asyncio.run(main())
"""


@pytest.mark.slow
async def test_killing_the_host_leaves_no_server_behind_and_loses_nothing(directory: Path) -> None:
    create = "CREATE TABLE kept AS SELECT 7 AS number"
    with subprocess.Popen(
        [sys.executable, "-c", HOST, directory / "postgres", create], stdout=subprocess.PIPE, text=True
    ) as host:
        assert host.stdout is not None
        assert "ready\n" in iter(host.stdout.readline, "")
        pid = server_pid(directory)
        host.kill()
    # At once, while the old server is still shutting down: the new one waits for it.
    again = embedded(directory)
    await again.start()
    try:
        await until_gone(pid)
        assert server_pid(directory) != pid
        assert await query(again, "SELECT number FROM kept") == 7
    finally:
        await again.stop()


@pytest.mark.slow
async def test_a_first_start_that_was_killed_is_no_obstacle_to_the_next(directory: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", HOST, directory / "postgres"], stdout=subprocess.PIPE, start_new_session=True
    ) as host:
        # Written at its beginning, when nearly all of the cluster is still to be made.
        await until(lambda: list(directory.rglob("PG_VERSION")))
        os.killpg(host.pid, signal.SIGKILL)
    again = embedded(directory)
    await again.start()
    try:
        assert await query(again, "SELECT 7") == 7
    finally:
        await again.stop()
    assert {path.name for path in directory.iterdir()} == {"postgres", "postgres-socket", "postgres.log"}


@pytest.mark.slow
async def test_a_server_that_was_killed_itself_recovers(directory: Path) -> None:
    server = embedded(directory)
    await server.start()
    await query(server, "CREATE TABLE kept AS SELECT 7 AS number")
    pid = server_pid(directory)
    os.kill(pid, signal.SIGKILL)
    await until_gone(pid)
    await server.stop()
    again = embedded(directory)
    await again.start()
    try:
        assert await query(again, "SELECT number FROM kept") == 7
    finally:
        await again.stop()


async def test_the_cluster_of_another_version_is_refused_with_what_to_do(directory: Path) -> None:
    server = embedded(directory)
    await server.start()
    await server.stop()
    (directory / "postgres" / "PG_VERSION").write_text("17\n")
    with pytest.raises(
        EmbeddedPostgresError, match="belongs to PostgreSQL 17, the bundled server is 18: dump it"
    ):
        await embedded(directory).start()


async def test_a_directory_that_others_can_enter_is_refused(directory: Path) -> None:
    (directory / "postgres").mkdir(mode=0o755)
    with pytest.raises(EmbeddedPostgresError, match="mode 0700"):
        await embedded(directory).start()


@requires("root")
async def test_a_directory_that_the_servers_user_cannot_reach_is_refused(directory: Path) -> None:
    (directory / "closed").mkdir(mode=0o700)
    with pytest.raises(EmbeddedPostgresError, match="RINGFENCE_DATA_DIR"):
        await embedded(directory / "closed" / "data").start()


async def test_what_the_server_says_when_it_does_not_start_is_told(directory: Path) -> None:
    server = EmbeddedPostgres(directory / "postgres", options={"shared_buffers": "a lot"})
    with pytest.raises(EmbeddedPostgresError, match=r"PostgreSQL did not start: .*shared_buffers"):
        await server.start()


NOT_ROOT = """
import asyncio, os, sys
from pathlib import Path
from ringfence.storage.embedded import EmbeddedPostgres

async def main():
    assert os.geteuid() != 0
    server = EmbeddedPostgres(Path(sys.argv[1]), options={"fsync": "off"})
    await server.start()
    pid = int((Path(sys.argv[1]) / "postmaster.pid").read_text().splitlines()[0])
    print(os.stat(f"/proc/{pid}").st_uid, flush=True)
    await server.stop()

asyncio.run(main())
"""


@requires("root", "mount namespaces")
@pytest.mark.slow
def test_a_host_that_is_not_root_runs_the_server_as_itself(directory: Path) -> None:
    # This Python may be where only root can go, so the child sees it, and what it imports, at places of its own.
    packages = [Path(ringfence.__file__).parents[1], Path(psycopg.__file__).parents[1]]
    mounts = {directory / "python": Path(sys.base_prefix)} | {
        directory / f"packages-{number}": path for number, path in enumerate(packages)
    }
    for place in mounts:
        place.mkdir()
    home = directory / "home"
    home.mkdir()
    os.chown(home, NOBODY.pw_uid, NOBODY.pw_gid)
    script = " && ".join(f"mount --bind {source} {place}" for place, source in mounts.items())
    python = directory / "python" / "bin" / f"python{sys.version_info[0]}.{sys.version_info[1]}"
    finished = subprocess.run(
        [
            *("unshare", "--mount", "sh", "-c", f'{script} && exec "$@"', "sh"),
            *(
                "setpriv",
                f"--reuid={NOBODY.pw_uid}",
                f"--regid={NOBODY.pw_gid}",
                "--clear-groups",
                "--inh-caps=-all",
            ),
            *(python, "-c", NOT_ROOT, home / "postgres"),
        ],
        cwd="/",
        env={
            "PYTHONPATH": os.pathsep.join(str(place) for place in list(mounts)[1:]),
            "LD_LIBRARY_PATH": str(directory / "python" / "lib"),
            "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
            "HOME": str(home),
        },
        capture_output=True,
        text=True,
    )
    assert finished.returncode == 0, finished.stderr
    assert finished.stdout.split()[-1] == str(NOBODY.pw_uid)
