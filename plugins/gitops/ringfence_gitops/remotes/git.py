"""Runs git, bounded in time, memory, files and output; whatever it has started ends with it.

Threat: a remote that never answers, or sends without end; a pack that unpacks to more than the machine has. Mechanism:
one deadline for all that a fetch does; limits of the kernel for memory, CPU and the size of a file, of which a pack is
one; output is read up to a bound; the whole group of processes is ended. Why git, and not a library: what hostile packs
do to it has been looked at for longest, it brings ssh and signatures, and its process can be bounded and ended, which
code in the host's own process cannot. Why not in the sandbox of scripts: that goes by the one policy, in whose network
a git server would be open for every script, and a host that can sandbox nothing must still be able to follow the
repository that mends its policy.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import sys
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from ringfence.bounded import cleaned
from ringfence.process.groups import end_group

from ringfence_gitops.remotes import bounded_main
from ringfence_gitops.remotes.confined import LANDLOCK_PROGRAM, orders_for
from ringfence_gitops.remotes.environment import Environment

MEMORY_BYTES = 2 * 1024**3
CPU_SECONDS = 120
MOST_FILES = 256
MOST_TOLD = 500
MOST_STDERR = 16 * 1024
_PROGRAM = bounded_main.__file__
_OUT_OF_ROOM = ("File too large",)
_OUT_OF_MEMORY = ("Out of memory", "out of memory", "unable to create thread")


class RemoteError(RuntimeError):
    """A repository cannot be had as it is; the message says why, and holds no password."""


class TooLargeError(RemoteError):
    """It is larger than what is fetched here."""


@dataclass(frozen=True, slots=True)
class Git:
    """git, for one fetch: in a directory of its own, until `deadline` (in the loop's time)."""

    directory: Path
    environment: Environment
    deadline: float
    seconds: float
    most_bytes: int
    hidden: Collection[str] = ()

    async def run(
        self, *arguments: str, most: int = 64 * 1024, stdin: bytes | None = None, program: str = "git"
    ) -> bytes:
        """What git prints. Raises `RemoteError`, also if it prints more than `most` bytes."""
        status, output, errors = await self.ask(*arguments, most=most, stdin=stdin, program=program)
        if status != 0:
            raise self.error(errors, program)
        return output

    async def ask(
        self, *arguments: str, most: int = 64 * 1024, stdin: bytes | None = None, program: str = "git"
    ) -> tuple[int, bytes, str]:
        """The exit status, what it prints, and what it says on stderr. Raises `RemoteError`."""
        path = shutil.which(program, path=f"/usr/local/bin:/usr/bin:/bin:{os.environ.get('PATH', '')}")
        if path is None:
            raise RemoteError(f"{program} is not installed on this instance of the host")
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            *("-I", "-S", _PROGRAM, json.dumps(self._orders(path)), path, *arguments),
            stdin=asyncio.subprocess.DEVNULL if stdin is None else asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env=dict(self.environment.variables),
            cwd=self.directory,
            start_new_session=True,
        )
        try:
            async with asyncio.timeout_at(self.deadline):
                output, errors = await _exchange(process, stdin, most)
                await process.wait()
        except TimeoutError:
            raise RemoteError(f"it took more than {self.seconds:g} seconds") from None
        finally:
            await end_group(process)
        return process.returncode or 0, output, self._told(errors)

    def error(self, told: str, program: str = "git") -> RemoteError:
        """What is raised for what git has said."""
        if any(one in told for one in _OUT_OF_ROOM):
            return TooLargeError(f"the repository is larger than {self.most_bytes // 1024**2} MiB")
        if any(one in told for one in _OUT_OF_MEMORY):
            return TooLargeError("reading the repository takes more memory than it may have")
        # What is decisive stands at the end, after warnings in frames.
        lines = [line.strip() for line in told.splitlines() if any(letter.isalnum() for letter in line)]
        told = "; ".join(lines)[-MOST_TOLD:] or "it did not say why"
        return RemoteError(f"{program} failed: {told}")

    def _orders(self, program: str) -> dict[str, object]:
        limits = {
            "RLIMIT_AS": MEMORY_BYTES,
            "RLIMIT_CPU": CPU_SECONDS,
            "RLIMIT_FSIZE": self.most_bytes,
            "RLIMIT_NOFILE": MOST_FILES,
            "RLIMIT_CORE": 0,
        }
        return {
            "parent": os.getpid(),
            "limits": limits,
            "landlock": orders_for(str(self.directory), program, self.environment.readable),
            "landlockProgram": LANDLOCK_PROGRAM,
        }

    def _told(self, errors: bytes) -> str:
        told = errors.decode(errors="replace")
        for one in self.hidden:
            told = told.replace(one, "***")
        return cleaned(told).replace(str(self.directory), "…")


async def _exchange(
    process: asyncio.subprocess.Process, stdin: bytes | None, most: int
) -> tuple[bytes, bytes]:
    try:
        async with asyncio.TaskGroup() as group:
            output = group.create_task(_read(process.stdout, most, is_strict=True))
            errors = group.create_task(_read(process.stderr, MOST_STDERR, is_strict=False))
            if stdin is not None and process.stdin is not None:
                group.create_task(_write(process.stdin, stdin))
    except* _EndlessError:
        raise TooLargeError(f"git prints more than {most // 1024} KiB") from None
    return output.result(), errors.result()


class _EndlessError(Exception):
    """More was printed than is read: nobody waits for the rest, as whoever prints waits for us."""


async def _read(stream: asyncio.StreamReader | None, most: int, *, is_strict: bool) -> bytes:
    """What comes up to a bound; of what is longer the beginning, or `_EndlessError`."""
    assert stream is not None
    found = bytearray()
    while piece := await stream.read(64 * 1024):
        if len(found) <= most:
            found += piece
        if len(found) > most and is_strict:
            raise _EndlessError
    return bytes(found[:most])


async def _write(stream: asyncio.StreamWriter, data: bytes) -> None:
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):
        stream.write(data)
        await stream.drain()
        stream.close()
