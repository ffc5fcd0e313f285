"""Images as their Dockerfiles make them, by buildah, on a Debian of mmdebstrap's; nothing of it is left afterwards.

What this machine's pip and npm are configured for (an index, an authority) holds for the builds too: it is mounted into
them, and is no part of an image.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import ssl
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from tests.containers.runtime import Image

ROOT = Path(__file__).parents[2]
BASE = "localhost/ringfence-test-base"
PASSED_ON = ("index-url", "extra-index-url", "trusted-host", "proxy", "timeout", "default-timeout", "retries")
AUTHORITIES = "/run/authorities"


MEMORY = Path("/dev/shm")
MUCH = 6 << 30


@contextlib.contextmanager
def place(prefix: str, *, least: int = MUCH) -> Iterator[Path]:
    """A directory that every user can pass through: in memory if that has room, as images are many small files."""
    fast = MEMORY.is_dir() and shutil.disk_usage(MEMORY).free > least and _available() > 2 * least
    # Programs are run from there.
    runs = fast and not os.statvfs(MEMORY).f_flag & os.ST_NOEXEC
    directory = Path(tempfile.mkdtemp(prefix=prefix, dir=MEMORY if runs else "/var/tmp"))
    directory.chmod(0o711)
    try:
        yield directory
    finally:
        shutil.rmtree(directory)


def _available() -> int:
    """The memory that programs can have without others losing theirs, in bytes (proc_meminfo(5))."""
    (found,) = re.findall(r"^MemAvailable: +(\d+) kB$", Path("/proc/meminfo").read_text(), re.MULTILINE)
    return int(found) << 10


def name_of(dockerfile: str, target: str | None = None) -> str:
    """What the store knows the image of a Dockerfile by, or of one of its stages."""
    return f"localhost/{dockerfile.lower()}-{target or 'last'}"


class Builder:
    """Builds images into a store of its own, beneath a directory that every user can pass through."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self.store = ("--root", str(directory / "storage"), "--runroot", str(directory / "run"))
        self._mounts: list[Path] = []
        self._configuration = directory / "configuration"
        self._configuration.mkdir()
        self._options = [
            *("--isolation", "chroot", "--network", "host", "--layers", "--format", "docker"),
            *("--build-arg", f"BASE={BASE}"),
            *(option for pair in self._configured() for option in ("--volume", f"{pair[0]}:{pair[1]}:ro")),
        ]

    def make_base(self) -> None:
        """The Debian that the Dockerfiles name, as small as that of the registries."""
        (suite,) = set(re.findall(r"ARG BASE=\S+:(\w+)-slim", (ROOT / "deploy/Dockerfile").read_text()))
        tree = self._directory / "base.tar"
        slim = [
            f"--dpkgopt=path-exclude={path}"
            for path in ("/usr/share/doc/*", "/usr/share/man/*", "/usr/share/locale/*")
        ]
        options = ["--quiet", "--variant=minbase", "--dpkgopt=force-unsafe-io", *slim]
        with place("ringfence-debian-", least=1 << 30) as quick:
            _done(["mmdebstrap", *options, suite, str(tree)], env={**os.environ, "TMPDIR": str(quick)})
        container = self._buildah("from", "scratch").strip()
        self._buildah("add", "--quiet", container, str(tree), "/")
        self._buildah("commit", "--quiet", "--rm", container, BASE)
        tree.unlink()

    def build(self, dockerfile: str, target: str | None = None) -> Image:
        """The image of a Dockerfile, or of one of its stages."""
        name = name_of(dockerfile, target)
        stage = [] if target is None else ["--target", target]
        self._buildah(
            "build", *self._options, *stage, "--tag", name, "--file", f"deploy/{dockerfile}", str(ROOT)
        )
        return self._mounted(name)

    def build_more(self, name: str, text: str, **files: str) -> Image:
        """An image of a Dockerfile that only tests have, and of the files that it copies."""
        context = self._directory / f"context-{len(self._mounts)}"
        context.mkdir()
        for file, content in {"Dockerfile": text, **files}.items():
            (context / file).write_text(content)
        self._buildah("build", *self._options, "--tag", name, str(context))
        return self._mounted(name)

    def save(self, name: str, archive: Path, known_as: str) -> None:
        """Write an image to a file that Docker loads, under another name."""
        self._buildah("push", "--quiet", name, f"docker-archive:{archive}:{known_as}")

    def _mounted(self, name: str) -> Image:
        """An image, with its file system where containers can have it: what they write there stays there."""
        config = json.loads(self._buildah("inspect", "--type", "image", name))["Docker"]
        container = self._buildah("from", "--quiet", name).strip()
        seen = Path(self._buildah("mount", container).strip())
        # The store is for root alone, and a container that has a user namespace around it is not root here.
        root = self._directory / f"root-{len(self._mounts)}"
        root.mkdir()
        _done(["mount", "--bind", str(seen), str(root)])
        self._mounts.append(root)
        return Image(root, config)

    def chroot(self, image: Image, *command: str) -> None:
        """Run a program in an image's file system, whose files it may change."""
        _done(["chroot", str(image.root), *command])

    def close(self) -> None:
        """Remove all of it."""
        for root in self._mounts:
            _done(["umount", str(root)])
        self._buildah("umount", "--all")
        # The store has its own directory mounted over itself.
        subprocess.run(["umount", str(self._directory / "storage/overlay")], capture_output=True)

    def _buildah(self, *arguments: str) -> str:
        return _done(["buildah", *self.store, *arguments], cwd=ROOT)

    def _configured(self) -> list[tuple[Path, str]]:
        """Files of this machine's configuration, and where the programs of a build look for them."""
        pip, npm, authorities = (self._configuration / name for name in ("pip.conf", "npmrc", "authorities"))
        authorities.mkdir()
        trusted = ssl.get_default_verify_paths().cafile
        listed = _done([sys.executable, "-m", "pip", "config", "list"])
        options = dict(re.findall(r"^(?:global|install|:env:)\.([\w-]+)='(.*)'$", listed, re.MULTILINE))
        pip.write_text(
            "[global]\n" + "".join(f"{name} = {options[name]}\n" for name in PASSED_ON if name in options)
        )
        npm.write_text("".join(f"registry={each}\n" for each in _registries()))
        if trusted is not None:
            shutil.copy(trusted, authorities / "all.pem")
            with pip.open("a") as file:
                file.write(f"cert = {AUTHORITIES}/all.pem\n")
            with npm.open("a") as file:
                file.write(f"cafile={AUTHORITIES}/all.pem\n")
        return [(pip, "/etc/pip.conf"), (npm, "/root/.npmrc"), (authorities, AUTHORITIES)]


def _registries() -> list[str]:
    """What this machine's npm is configured for; nothing, and so npm's own default, where there is no npm."""
    return [] if shutil.which("npm") is None else [_done(["npm", "config", "get", "registry"]).strip()]


def _done(command: Sequence[str], *, cwd: Path | None = None, env: dict[str, str] | None = None) -> str:
    """What a program says that has to succeed."""
    done = subprocess.run(command, capture_output=True, text=True, cwd=cwd, env=env)
    assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout[-4000:]}\n{done.stderr[-4000:]}"
    return done.stdout
