"""The packages of a run on this machine that a command starts: a set of the host, in a tree that is made here.

Threat: what the host sends is not what its lock says. Mechanism: the lock is believed by its hash, and each file by its
own, before anything is unpacked; see `ringfence.scripts.packages.trees`. The tree is kept for the next run.
"""

from __future__ import annotations

import contextlib
import json
import os
import tarfile
import tempfile
from pathlib import Path
from typing import IO, Any

from ringfence.cli import CliError, HostClient, PackagesToRun, output
from ringfence.sandbox.capabilities.probe import probe
from ringfence.sandbox.faults import Unavailable
from ringfence.scripts import NotReady, PackageTree, ScriptRequest
from ringfence.scripts.packages.blobs import BlobDirectory
from ringfence.scripts.packages.errors import PackagesError
from ringfence.scripts.packages.lock import Lock, NoFit
from ringfence.scripts.packages.platform import Platform
from ringfence.scripts.packages.reach import barred, runs_as_another_user
from ringfence.scripts.packages.trees import Trees, tree_key

from ringfence_script_packages.addresses import PACKAGES
from ringfence_script_packages.commands.installing import set_path, size

SCRIPTS = f"{PACKAGES}/scripts"
GRACE_SECONDS = 24 * 3600.0
"""How long a tree is kept here that was not used."""
PIECE = 1024 * 1024


def packages_to_run(host: HostClient, request: ScriptRequest) -> PackagesToRun | None:
    """The set that a script asks for, and its tree here; None if it asks for none. Raises `CliError`."""
    body: dict[str, Any] = {"packages": request.packages}
    if request.script is not None:
        # Else it is a program, which says nothing of what it imports.
        with contextlib.suppress(UnicodeDecodeError):
            body |= {"script": request.source.decode(), "kind": request.kind.value, "name": request.name}
    name = host.request("POST", SCRIPTS, body=body)["set"]
    return None if name is None else PackagesToRun(name, _tree(host, name))


def cache_directory() -> Path:
    """Where the trees of this user are, on this machine."""
    own = "/var/cache" if os.geteuid() == 0 else Path.home() / ".cache"
    return Path(os.environ.get("XDG_CACHE_HOME") or own, "ringfence", "packages")


def _tree(host: HostClient, name: str) -> PackageTree | NotReady:
    state = host.request("GET", set_path(name))
    hash = state["lockHash"]
    if hash is None:
        return NotReady(f"the set {name} is not installed: see `ringfence packages status --set {name}`")
    directory = cache_directory()
    try:
        capabilities = probe()
        platform = Platform.of(capabilities)
        directory.mkdir(parents=True, exist_ok=True)
        directory.chmod(0o711)
        reason = barred(directory, otherwise="set XDG_CACHE_HOME to another directory")
        if reason is not None and runs_as_another_user(capabilities):
            return NotReady(reason)
        blobs = BlobDirectory(directory / "files")
        trees = Trees(directory, blobs)
        if (pin := trees.pin(hash, platform)) is None:
            output.note(f"Fetching the packages of the set {output.line(name)}, {size(state['bytes'])}.")
            lock = _fetch(host, name, hash, platform, blobs, directory)
            trees.make(lock, platform)
            blobs.collect((), 0.0)
            pin = trees.pin(hash, platform)
        trees.collect({tree_key(hash, platform)}, GRACE_SECONDS)
    except (PackagesError, Unavailable) as error:
        return NotReady(str(error))
    except OSError as error:
        raise CliError(
            f"the packages of the set {name} cannot be kept in {directory}: {error.strerror or error}",
            hint="Make room there, or let this user write there.",
        ) from error
    return NotReady("they were removed meanwhile") if pin is None else PackageTree(name, hash, pin)


def _fetch(
    host: HostClient, name: str, hash: str, platform: Platform, blobs: BlobDirectory, directory: Path
) -> Lock:
    """Have the files here that this platform needs of a lock; the lock. Raises `PackagesError`."""
    with tempfile.TemporaryFile(dir=directory) as file:
        host.download(f"{set_path(name)}/archive", file)
        file.seek(0)
        try:
            with tarfile.open(fileobj=file, mode="r:") as archive:
                return _taken(archive, hash, platform, blobs)
        except (tarfile.TarError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise PackagesError(f"the host sends what cannot be read: {type(error).__name__}") from error


def _taken(archive: tarfile.TarFile, hash: str, platform: Platform, blobs: BlobDirectory) -> Lock:
    lock = Lock.model_validate(json.load(_content(archive, archive.next()))["lock"])
    if lock.hash != hash:
        raise PackagesError("the set has changed meanwhile: run it again")
    files = lock.files_for(platform)
    if isinstance(files, NoFit):
        raise PackagesError(str(files))
    missing = {f"blobs/{file.sha256}": file for file in blobs.missing(files)}
    while missing and (member := archive.next()) is not None:
        wanted = missing.pop(member.name, None)
        if wanted is None:
            continue
        with _content(archive, member) as content, blobs.receiving(wanted) as arriving:
            content.seek(arriving.size)
            while not arriving.whole and (piece := content.read(PIECE)):
                arriving.write(piece)
            arriving.finish()
    if missing:
        raise PackagesError("the host does not have all of their files yet: see `ringfence packages status`")
    return lock


def _content(archive: tarfile.TarFile, member: tarfile.TarInfo | None) -> IO[bytes]:
    content = None if member is None else archive.extractfile(member)
    if content is None:
        raise PackagesError("the host sends an archive that is not whole")
    return content
