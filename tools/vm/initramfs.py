"""The first root of the virtual machine: enough to mount the host's files under a layer of memory, and to go there.

It is made of a few of the host's own programs with their libraries, and of the kernel's modules for shared files, so
that there is no second set of programs to keep.
"""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path

MODULES = ("virtio_pci", "9pnet_virtio", "9p", "overlay")

PROGRAMS = {"sh": "sh", "mkdir": "mkdir", "mount": "mount", "switch_root": "switch_root", "insmod": "kmod"}
"""What init calls, and which of the host's programs that is."""

SEARCH_PATH = "/usr/sbin:/usr/bin:/sbin:/bin"

_DIRECTORY, _FILE = 0o040755, 0o100755

_INIT = """#!/bin/sh
set -e
while read -r module; do insmod "/modules/$module"; done </modules/order
mount -t 9p -o ro,trans=virtio,version=9p2000.L,cache=loose,msize=524288 host /lower
mount -t tmpfs -o mode=755,size=75% memory /memory
mkdir /memory/upper /memory/work
mount -t overlay -o lowerdir=/lower,upperdir=/memory/upper,workdir=/memory/work overlay /root
exec switch_root /root {guest}
"""


def build(modules: Path, guest: list[str]) -> bytes:
    """The archive that the kernel unpacks, uncompressed.

    Args:
        modules: the kernel's directory under `/lib/modules`.
        guest: the command, on the host's files, to which the first root hands over.

    Raises:
        FileNotFoundError: if this machine lacks one of the programs or modules, which the message names.
    """
    files: dict[str, bytes] = {"init": _INIT.format(guest=shlex.join(guest)).encode()}
    for name, program in PROGRAMS.items():
        path = shutil.which(program, path=SEARCH_PATH)
        if path is None:
            raise FileNotFoundError(f"{program} is not installed")
        files[f"bin/{name}"] = Path(path).read_bytes()
        files |= {library.lstrip("/"): Path(library).read_bytes() for library in _libraries(path)}
    order = list(_in_order(modules))
    files["modules/order"] = "".join(f"{module.name}\n" for module in order).encode()
    files |= {f"modules/{module.name}": module.read_bytes() for module in order}
    return _archive(files, ("lower", "memory", "root"))


def _libraries(program: str) -> list[str]:
    """The libraries of a program and its loader, as the loader finds them."""
    listed = subprocess.run(["ldd", program], capture_output=True, text=True, check=True).stdout
    return re.findall(r"(/\S+) \(0x", listed)


def _in_order(modules: Path) -> Iterator[Path]:
    """The files of the modules that are wanted, each after those that it needs."""
    needs: dict[str, tuple[str, list[str]]] = {}
    for line in (modules / "modules.dep").read_text().splitlines():
        path, _, others = line.partition(":")
        needs[_name(path)] = (path, [_name(other) for other in others.split()])
    built_in = {_name(path) for path in (modules / "modules.builtin").read_text().split()}
    done: set[str] = set()

    def visit(name: str) -> Iterator[Path]:
        if name in done or name in built_in:
            return
        done.add(name)
        if name not in needs:
            raise FileNotFoundError(f"the kernel {modules.name} has no module {name}")
        path, others = needs[name]
        for other in others:
            yield from visit(other)
        yield modules / path

    for name in MODULES:
        yield from visit(name)


def _name(path: str) -> str:
    """A module's name, which its file has with dashes or underscores, and compressed or not."""
    return Path(path).name.partition(".")[0].replace("-", "_")


def _archive(files: Mapping[str, bytes], directories: tuple[str, ...]) -> bytes:
    """A cpio archive in the "newc" format (the kernel's buffer-format.rst), parents before what is in them."""
    parents = {str(parent) for path in files for parent in Path(path).parents} - {"."}
    entries = [(path, _DIRECTORY, b"") for path in sorted({*parents, *directories})]
    entries += [(path, _FILE, data) for path, data in files.items()]
    archive = bytearray()
    for number, (path, mode, data) in enumerate([*entries, ("TRAILER!!!", 0, b"")], 1):
        fields = (number, mode, 0, 0, 1, 0, len(data), 0, 0, 0, 0, len(path) + 1, 0)
        archive += b"070701" + b"".join(b"%08x" % field for field in fields) + path.encode() + b"\0"
        archive += bytes(-len(archive) % 4) + data
        archive += bytes(-len(archive) % 4)
    return bytes(archive)
