"""Fetches the newest commit of a branch, and reads the files that are asked for out of it.

Each fetch has a directory of its own, which is gone afterwards: nothing that a remote has sent is there for the next.
Only the newest commit is fetched, without those before it.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import shutil
import socket
import tempfile
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from ringfence_gitops.remotes.address import Remote, why_refused
from ringfence_gitops.remotes.commit import MOST_BYTES, Commit, commit_of
from ringfence_gitops.remotes.environment import Credentials, environment, is_proxied
from ringfence_gitops.remotes.git import Git, RemoteError
from ringfence_gitops.remotes.signatures import Signers, signer_of
from ringfence_gitops.remotes.tree import (
    LARGEST_SUM,
    MOST_FILES,
    MOST_LISTED,
    Tree,
    contents_of,
    tree_of,
)

TIP = "refs/ringfence/tip"
OLDEST_LEFT_SECONDS = 3600.0
_LISTED = re.compile(r"([0-9a-f]{40}|[0-9a-f]{64})\t(\S+)")
_PREFIX = "fetch-"


@dataclass(frozen=True, slots=True)
class Bounds:
    """How long a fetch may take, how large a repository may be, and which addresses are connected to."""

    seconds: float
    most_bytes: int
    link_local: bool = False


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is fetched: a branch of a repository, and a directory in it."""

    remote: Remote
    branch: str
    path: str
    credentials: Credentials
    signers: Signers


@dataclass(frozen=True, slots=True)
class Fetched:
    """A commit, who has signed it, and the tree at the wanted path."""

    commit: Commit
    signer: str | None
    tree: Tree
    git: Git

    async def texts(self, paths: Iterable[str]) -> dict[str, str]:
        """The texts of files, of those that are there. Raises `RemoteError`."""
        wanted = self.tree.chosen(paths)
        if not wanted:
            return {}
        asked = "".join(f"{one.id}\n" for one in wanted.values()).encode()
        room = LARGEST_SUM + MOST_FILES * 100
        return contents_of(await self.git.run("cat-file", "--batch", most=room, stdin=asked), wanted)


class Repository:
    """A remote repository, for the time of one look at it. Use it as a context."""

    def __init__(self, wanted: Wanted, bounds: Bounds, room: Path) -> None:
        self._wanted = wanted
        self._bounds = bounds
        self._room = room
        self._git: Git

    async def __aenter__(self) -> Repository:
        """Raises `RemoteError`."""
        deadline = asyncio.get_running_loop().time() + self._bounds.seconds
        wanted = self._wanted
        addresses = await self._addresses(deadline)
        self._directory = Path(await asyncio.to_thread(_new_directory, self._room))
        try:
            made = environment(self._directory, wanted.remote, wanted.credentials, addresses)
        except BaseException:
            await self.__aexit__()
            raise
        self._git = Git(
            self._directory,
            made,
            deadline,
            self._bounds.seconds,
            self._bounds.most_bytes,
            wanted.credentials.hidden,
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        await asyncio.to_thread(shutil.rmtree, self._directory, ignore_errors=True)

    async def newest(self) -> str:
        """The id of the branch's newest commit. Raises `RemoteError`."""
        wanted = self._wanted
        ref = f"refs/heads/{wanted.branch}"
        listed = await self._git.run("ls-remote", "--quiet", "--", wanted.remote.url, ref)
        for line in listed.decode(errors="replace").splitlines():
            found = _LISTED.fullmatch(line)
            if found is not None and found[2] == ref:
                return found[1]
        raise RemoteError(f"there is no branch {wanted.branch}")

    async def fetched(self, id: str) -> Fetched:
        """Fetch the branch, whose newest commit was `id` a moment ago. Raises `RemoteError`."""
        git, wanted = self._git, self._wanted
        form = "sha256" if len(id) == 64 else "sha1"
        await git.run(
            *("init", "--quiet", "--bare", "--template=", f"--object-format={form}"),
            str(self._directory / "repository"),
        )
        await git.run(
            *(
                "fetch",
                "--quiet",
                "--depth=1",
                "--no-tags",
                "--no-recurse-submodules",
                "--no-write-fetch-head",
            ),
            *("--no-auto-maintenance", "--", wanted.remote.url, f"+refs/heads/{wanted.branch}:{TIP}"),
        )
        tip = (await git.run("rev-parse", "--verify", "--end-of-options", f"{TIP}^{{commit}}")).decode()
        commit = commit_of(tip.strip(), await git.run("cat-file", "commit", tip.strip(), most=MOST_BYTES))
        signer = None
        if wanted.signers.are_asked_for:
            signer = await signer_of(git, commit, wanted.signers)
        return Fetched(commit, signer, await self._tree(commit), git)

    async def _tree(self, commit: Commit) -> Tree:
        path = self._wanted.path
        status, listed, told = await self._git.ask(
            *("ls-tree", "-r", "-z", "-l", "--full-tree", f"{commit.id}:{path}"), most=MOST_LISTED
        )
        if status != 0:
            if path and ("Not a valid object name" in told or "not a tree object" in told):
                raise RemoteError(f"there is no directory {path} in the repository")
            raise self._git.error(told)
        return tree_of(listed)

    async def _addresses(self, deadline: float) -> Sequence[str]:
        """The addresses that are connected to. Raises `RemoteError`."""
        remote = self._wanted.remote
        if remote.scheme == "file":
            return ()
        host, port = remote.connects_to
        try:
            async with asyncio.timeout_at(deadline):
                found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError):
            if is_proxied(remote):
                return ()
            raise RemoteError(f"{host} has no address that can be found") from None
        except TimeoutError:
            raise RemoteError(f"looking up {host} took too long") from None
        addresses = list(dict.fromkeys(str(one[4][0]) for one in found))
        if (why := why_refused(addresses, link_local=self._bounds.link_local)) is not None:
            raise RemoteError(f"{host}: {why}")
        return () if is_proxied(remote) else addresses


async def sweep(room: Path) -> None:
    """Remove what fetches have left that were not let end."""
    await asyncio.to_thread(_sweep, room)


def _new_directory(room: Path) -> str:
    room.mkdir(mode=0o700, parents=True, exist_ok=True)
    return tempfile.mkdtemp(prefix=_PREFIX, dir=room)


def _sweep(room: Path) -> None:
    with contextlib.suppress(OSError):
        for one in room.glob(f"{_PREFIX}*"):
            if one.stat().st_mtime < time.time() - OLDEST_LEFT_SECONDS:
                shutil.rmtree(one, ignore_errors=True)
