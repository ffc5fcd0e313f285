"""A remote is fetched within bounds, whatever it is and does; and what it is shown goes nowhere else."""

from __future__ import annotations

import asyncio
import dataclasses
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from ringfence.testing import eventually
from ringfence_gitops.remotes.address import remote_of
from ringfence_gitops.remotes.environment import Credentials
from ringfence_gitops.remotes.fetching import Bounds, Fetched, Wanted, sweep
from ringfence_gitops.remotes.fetching import Repository as Remote
from ringfence_gitops.remotes.git import RemoteError
from ringfence_gitops.remotes.signatures import Signers

from tests.gitops.repositories import BACKEND, HAS_GIT, Repository, Server, served_over_http, signing_key

pytestmark = pytest.mark.skipif(not HAS_GIT, reason="git is not installed")
over_http = pytest.mark.skipif(BACKEND is None, reason="git-http-backend is not installed")
BOUNDS = Bounds(30.0, 32 * 1024**2)
NOBODY = Signers()


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    made = Repository(tmp_path / "remote")
    made.commit(
        {"a.yaml": "one: 1\n", "checks/b.yml": "two: 2\n", "checks/run.sh": "exit 0\n"}, "first\n\nmore"
    )
    return made


@pytest.fixture
def http(repository: Repository) -> Iterator[Server]:
    with served_over_http(repository.bare.parent) as server:
        yield server


async def fetch(
    url: str,
    room: Path,
    *,
    bounds: Bounds = BOUNDS,
    branch: str = "main",
    path: str = "",
    credentials: Credentials | None = None,
    signers: Signers = NOBODY,
    also: tuple[str, ...] = (),
) -> tuple[Fetched, dict[str, str]]:
    wanted = Wanted(remote_of(url), branch, path, credentials or Credentials(), signers)
    async with Remote(wanted, bounds, room) as remote:
        fetched = await remote.fetched(await remote.newest())
        files = await fetched.texts(fetched.tree.documents())
        return fetched, files | await fetched.texts(also)


async def test_the_newest_commit_of_a_branch_is_read_and_nothing_of_it_is_left(
    repository: Repository, tmp_path: Path
) -> None:
    fetched, files = await fetch(repository.url, tmp_path / "room", also=("checks/run.sh", "nowhere"))
    assert files == {"a.yaml": "one: 1\n", "checks/b.yml": "two: 2\n", "checks/run.sh": "exit 0\n"}
    assert (fetched.commit.id, fetched.commit.subject) == (repository.head(), "first")
    assert (fetched.commit.author, int(fetched.commit.at.timestamp())) == ("Ann", 1_700_000_000)
    _, within = await fetch(repository.url, tmp_path / "room", path="checks", also=("run.sh", "../a.yaml"))
    assert within == {"b.yml": "two: 2\n", "run.sh": "exit 0\n"}
    assert list((tmp_path / "room").iterdir()) == []


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"branch": "gone"}, "there is no branch gone"),
        ({"path": "nowhere"}, "there is no directory nowhere"),
        ({"path": "a.yaml"}, "there is no directory a.yaml"),
    ],
)
async def test_what_is_not_there_is_said(
    repository: Repository, tmp_path: Path, change: dict[str, str], says: str
) -> None:
    with pytest.raises(RemoteError, match=says):
        await fetch(repository.url, tmp_path / "room", **change)  # type: ignore[arg-type]


async def test_links_submodules_and_strange_files_are_errors_and_read_by_nobody(
    repository: Repository, tmp_path: Path
) -> None:
    (repository.work / "link.yaml").symlink_to("/etc/passwd")
    repository.commit({})
    with pytest.raises(RemoteError, match=r"^link\.yaml is a symbolic link, which is not followed"):
        await fetch(repository.url, tmp_path / "room")
    _, within = await fetch(repository.url, tmp_path / "room", path="checks")
    assert list(within) == ["b.yml"]

    (repository.work / "link.yaml").unlink()
    repository.git("update-index", "--add", "--cacheinfo", f"160000,{repository.head()},inner")
    repository.git("rm", "--quiet", "--cached", "link.yaml")
    repository.git("commit", "--quiet", "-m", "a submodule")
    repository.push()
    with pytest.raises(RemoteError, match="inner is a submodule"):
        await fetch(repository.url, tmp_path / "room")


async def test_texts_that_are_none_and_files_that_are_too_large_are_errors(
    repository: Repository, tmp_path: Path
) -> None:
    for content, says in (
        (b"\xff\xfe", "no text in UTF-8: byte 0"),
        (b"a\0b", "holds a zero byte"),
        (b"#" * (1024 * 1024 + 1), "larger than 1024 KiB"),
    ):
        repository.commit({"bad.yaml": content})
        with pytest.raises(RemoteError, match=says):
            await fetch(repository.url, tmp_path / "room")
    repository.commit({"bad.yaml": None, **{f"many/{number}.yaml": "a: 1" for number in range(1001)}})
    with pytest.raises(RemoteError, match="more than 1000 files"):
        await fetch(repository.url, tmp_path / "room")


async def test_a_repository_that_grows_beyond_the_bound_is_given_up(
    repository: Repository, tmp_path: Path
) -> None:
    tight = dataclasses.replace(BOUNDS, most_bytes=1024**2)
    await fetch(repository.url, tmp_path / "room", bounds=tight)
    repository.commit({"noise.bin": os.urandom(3 * 1024**2)})
    with pytest.raises(RemoteError, match="larger than 1 MiB"):
        await fetch(repository.url, tmp_path / "room", bounds=tight)
    assert list((tmp_path / "room").iterdir()) == []


async def test_a_tree_that_stands_in_itself_without_end_is_given_up(
    repository: Repository, tmp_path: Path
) -> None:
    """Ten directories of ten directories, and so on: 10 objects that list 10,000,000,000 files."""
    made = repository.git("hash-object", "-w", "--path=x", "a.yaml").strip()
    kind, mode = "blob", "100644"
    for _ in range(10):
        listed = "".join(f"{mode} {kind} {made}\td{number}\n" for number in range(10))
        (repository.work / "listed").write_text(listed)
        script = f"git mktree < {repository.work / 'listed'}"
        made = repository.git("-c", f"alias.bomb=!{script}", "bomb").strip()
        kind, mode = "tree", "040000"
    commit = repository.git("commit-tree", made, "-m", "a bomb").strip()
    repository.git("push", "--quiet", "--force", "origin", f"{commit}:refs/heads/main")
    with pytest.raises(RemoteError, match="git prints more than"):
        await fetch(repository.url, tmp_path / "room")


async def test_the_machines_own_configuration_and_the_remotes_hooks_count_for_nothing(
    repository: Repository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path / "home"
    home.mkdir()
    touched = tmp_path / "touched"
    configured = f'[core]\n\tfsmonitor = "touch {touched}"\n\tsshCommand = "touch {touched}"\n'
    (home / ".gitconfig").write_text(configured)
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(home / ".gitconfig"))
    monkeypatch.setenv("GIT_TRACE", str(touched))
    for hook in ("post-checkout", "reference-transaction", "pre-receive"):
        path = repository.bare / "hooks" / hook
        path.write_text(f"#!/bin/sh\ntouch {touched}\n")
        path.chmod(0o755)
    await fetch(repository.url, tmp_path / "room")
    assert not touched.exists()


@over_http
async def test_a_token_is_shown_to_its_remote_and_stands_in_no_message(
    repository: Repository, http: Server, tmp_path: Path
) -> None:
    http.token = "s3cr3t-t0ken"
    url = f"{http.url}/shop.git"
    shown = Credentials(token="s3cr3t-t0ken")
    _, files = await fetch(url, tmp_path / "room", credentials=shown)
    assert set(files) == {"a.yaml", "checks/b.yml"}
    http.token = "another"
    for credentials in (Credentials(), shown):
        with pytest.raises(RemoteError) as refused:
            await fetch(url, tmp_path / "room", credentials=credentials)
        assert "Authentication failed" in str(refused.value) or "could not read" in str(refused.value)
        assert "s3cr3t" not in str(refused.value)


@over_http
async def test_a_redirect_is_not_followed_and_the_token_is_not_sent_there(
    repository: Repository, http: Server, tmp_path: Path
) -> None:
    with served_over_http(repository.bare.parent) as other:
        http.redirect = other.url
        with pytest.raises(RemoteError, match=r"301|redirect"):
            await fetch(f"{http.url}/shop.git", tmp_path / "room", credentials=Credentials(token="s3cr3t"))
        assert (other.requests, other.authorizations) == (0, ())


@over_http
async def test_a_remote_that_hangs_or_never_ends_is_left_within_the_deadline(
    http: Server, tmp_path: Path
) -> None:
    short = dataclasses.replace(BOUNDS, seconds=1.0)
    http.hangs = True
    before = time.monotonic()
    with pytest.raises(RemoteError, match="took more than 1 seconds"):
        await fetch(f"{http.url}/shop.git", tmp_path / "room", bounds=short)
    assert time.monotonic() - before < 20
    http.hangs, http.endless = False, True
    with pytest.raises(RemoteError):
        await fetch(f"{http.url}/shop.git", tmp_path / "room", bounds=short)
    assert list((tmp_path / "room").iterdir()) == []


async def test_whoever_is_cancelled_leaves_no_process_and_no_file(http: Server, tmp_path: Path) -> None:
    http.hangs = True
    fetching = asyncio.create_task(fetch(f"{http.url}/shop.git", tmp_path / "room"))

    async def asked() -> int:
        return http.requests

    assert await eventually(asked)
    fetching.cancel()
    with pytest.raises(asyncio.CancelledError):
        await fetching
    assert list((tmp_path / "room").iterdir()) == []


async def test_nobody_answers_and_names_that_lead_to_metadata_are_not_asked(tmp_path: Path) -> None:
    with pytest.raises(RemoteError, match=r"git failed: .*127\.0\.0\.1"):
        await fetch("http://127.0.0.1:9/shop.git", tmp_path / "room")
    for url in (
        "https://169.254.169.254/a",
        "http://2852039166/a",
        "https://[fe80::1]/a",
        "ssh://git@169.254.169.254/a",
    ):
        with pytest.raises(RemoteError, match="is not connected to"):
            await fetch(url, tmp_path / "room")


async def test_signatures_are_asked_for_and_looked_at(repository: Repository, tmp_path: Path) -> None:
    ours, theirs = tmp_path / "ours", tmp_path / "theirs"
    signers = Signers(allowed_signers=f"ann@example.org {signing_key(ours)}\n")
    signing_key(theirs)
    with pytest.raises(RemoteError, match="is not signed, and the source asks"):
        await fetch(repository.url, tmp_path / "room", signers=signers)
    repository.commit({"a.yaml": "one: 2\n"}, "by somebody else", key=theirs)
    with pytest.raises(RemoteError, match="signed by nobody whom the source names"):
        await fetch(repository.url, tmp_path / "room", signers=signers)
    repository.commit({"a.yaml": "one: 3\n"}, "by ann", key=ours)
    fetched, _ = await fetch(repository.url, tmp_path / "room", signers=signers)
    assert fetched.signer == "ann@example.org"
    no_ssh = Signers(gpg_keys=None, allowed_signers="ann@example.org " + signing_key(tmp_path / "new"))
    with pytest.raises(RemoteError, match="signed by nobody"):
        await fetch(repository.url, tmp_path / "room", signers=no_ssh)


async def test_what_dead_instances_have_left_is_swept_away(tmp_path: Path) -> None:
    old, new = tmp_path / "fetch-old", tmp_path / "fetch-new"
    for one in (old, new):
        one.mkdir()
    os.utime(old, (0, 0))
    await sweep(tmp_path)
    assert [one.name for one in tmp_path.iterdir()] == ["fetch-new"]


@pytest.mark.skipif(shutil.which("gpg") is None, reason="gpg is not installed")
async def test_signatures_of_gnupg_are_looked_at_too(repository: Repository, tmp_path: Path) -> None:
    # Its sockets have short paths.
    with tempfile.TemporaryDirectory() as home:

        def gpg(*arguments: str) -> str:
            words = ["gpg", "--homedir", home, "--batch", "--quiet", "--passphrase", "", *arguments]
            return subprocess.run(words, check=True, capture_output=True, text=True, timeout=60).stdout

        gpg("--quick-gen-key", "Ann <ann@example.org>", "ed25519", "sign", "never")
        keys = gpg("--armor", "--export", "ann@example.org")
        signing = ("-c", "user.signingkey=ann@example.org", "commit", "--quiet", "--allow-empty", "-S")
        repository.git(*signing, "-m", "by ann", GNUPGHOME=home)
        repository.push()
        subprocess.run(["gpgconf", "--homedir", home, "--kill", "all"], check=False, timeout=60)
    fetched, _ = await fetch(repository.url, tmp_path / "room", signers=Signers(gpg_keys=keys))
    assert fetched.signer == "Ann <ann@example.org>"
    by_ssh = Signers(allowed_signers=f"ann@example.org {signing_key(tmp_path / 'key')}")
    with pytest.raises(RemoteError, match="signed by nobody whom the source names"):
        await fetch(repository.url, tmp_path / "room", signers=by_ssh)
