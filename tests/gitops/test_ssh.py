"""Over ssh: a real sshd, whose key has to be the one that the source knows."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shlex
import shutil
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from ringfence_gitops.remotes.address import remote_of
from ringfence_gitops.remotes.environment import Credentials, environment
from ringfence_gitops.remotes.fetching import Bounds, Wanted
from ringfence_gitops.remotes.fetching import Repository as Remote
from ringfence_gitops.remotes.git import RemoteError
from ringfence_gitops.remotes.signatures import Signers

from tests.gitops.repositories import HAS_GIT, Repository, signing_key

SSHD = shutil.which("sshd", path=f"/usr/sbin:{os.environ['PATH']}")
pytestmark = pytest.mark.skipif(
    not HAS_GIT or SSHD is None or os.geteuid() != 0, reason="sshd is not installed, or cannot be started"
)


@contextlib.contextmanager
def sshd(directory: Path, public: str) -> Iterator[tuple[int, str]]:
    """A server that lets this key in; its port, and its own key."""
    directory.mkdir()
    host_key = signing_key(directory / "host")
    (directory / "authorized").write_text(public + "\n")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = int(free.getsockname()[1])
    Path("/run/sshd").mkdir(exist_ok=True)
    options = {
        "ListenAddress": f"127.0.0.1:{port}",
        "HostKey": directory / "host",
        "AuthorizedKeysFile": directory / "authorized",
        "PidFile": "none",
        "StrictModes": "no",
        "UsePAM": "no",
        "PermitRootLogin": "prohibit-password",
        "SetEnv": "GIT_CONFIG_COUNT=1 GIT_CONFIG_KEY_0=safe.directory GIT_CONFIG_VALUE_0=*",
    }
    words = [word for name, value in options.items() for word in ("-o", f"{name}={value}")]
    assert SSHD is not None
    server = subprocess.Popen([SSHD, "-D", "-e", "-f", "/dev/null", *words], stderr=subprocess.DEVNULL)
    try:
        yield port, host_key
    finally:
        server.terminate()
        server.wait(20)


async def test_a_repository_is_fetched_over_ssh_from_the_host_that_is_known(tmp_path: Path) -> None:
    repository = Repository(tmp_path / "remote")
    repository.commit({"a.yaml": "one: 1\n"})
    public = signing_key(tmp_path / "key")
    private = (tmp_path / "key").read_text()
    with sshd(tmp_path / "server", public) as (port, host_key):

        async def fetch(known: str, key: str = private) -> dict[str, str]:
            url = f"ssh://root@localhost:{port}{repository.bare}"
            shown = Credentials(ssh_key=key, known_hosts=known)
            wanted = Wanted(remote_of(url), "main", "", shown, Signers())
            async with Remote(wanted, Bounds(30.0, 32 * 1024**2), tmp_path / "a room") as remote:
                fetched = await remote.fetched(await remote.newest())
                return await fetched.texts(fetched.tree.documents())

        for _ in range(100):
            with contextlib.suppress(OSError):
                _, writer = await asyncio.open_connection("127.0.0.1", port)
                writer.close()
                break
            await asyncio.sleep(0.05)
        assert await fetch(f"[localhost]:{port} {host_key}\n") == {"a.yaml": "one: 1\n"}
        other = signing_key(tmp_path / "other")
        with pytest.raises(RemoteError, match="Host key verification failed"):
            await fetch(f"[localhost]:{port} {other}\n")
        with pytest.raises(RemoteError, match="Permission denied"):
            await fetch(f"[localhost]:{port} {host_key}\n", (tmp_path / "other").read_text())
        assert list((tmp_path / "a room").iterdir()) == []


@pytest.mark.skipif(shutil.which("ssh") is None, reason="needs ssh")
def test_the_directory_of_a_fetch_may_have_any_name(tmp_path: Path) -> None:
    directory = tmp_path / "a b %h"
    directory.mkdir()
    made = environment(directory, remote_of("git@example.org:shop.git"), Credentials(ssh_key="x"), ())
    words = shlex.split(made.variables["GIT_SSH_COMMAND"])
    told = subprocess.run([words[0], "-G", *words[1:], "example.org"], capture_output=True, text=True)
    options = dict(line.split(" ", 1) for line in told.stdout.splitlines() if " " in line)
    known = options["userknownhostsfile"].strip('"').replace("%%", "%")
    assert Path(known) == directory / "known_hosts", told.stderr
    assert options["identityfile"].strip('"').replace("%%", "%") == str(directory / "ssh_key")
