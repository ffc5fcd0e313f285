"""A room in the configuration of nsjail (config.proto of its sources): pure text, but for what is mounted on this host.

How it differs from bubblewrap, and what is done about that:

- It makes its room beneath a directory that it leaves in the host's `/tmp`. It gets a `/tmp` of its own, which is gone
  with the run (`preparation`).
- Of what is shown read-only, it lets what is mounted beneath stay writable. Each such mount is shown by itself.
- It takes no filter program, makes no init, and can make no directories with given permissions: `loader_main` does.
- Its loader and itself may write to their error output at any time. That is not the script's: see `loader_main`.
- Whatever is not passed on is closed, its own program among it.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

from ringfence.sandbox.wrappers import room as words
from ringfence.sandbox.wrappers.room import Descriptors, Room, Start, Step
from ringfence.sandbox.wrappers.stage import Preparation

MOUNTS = "/proc/self/mountinfo"

TMP = "/tmp"  # noqa: S108 - the host's
ASIDE = "/dev/shm"  # noqa: S108 - in a mount namespace of the wrapper's own
"""Where the host's `/tmp` is for the wrapper if something of it is to be shown."""

NOTHING = f"{TMP}/nothing"
"""A file without content, in the `/tmp` of the wrapper's own."""

EMPTY = f"{TMP}/empty"
"""A directory there that stays empty: the lower layer of each overlay. (The host's own may be out of sight.)"""

USERS = "/run/user"

_THERE: dict[str, object] = {"is_dir": True}
"""Says of a file that is to be covered that it is a directory: nsjail then finds that there is something, and does not
open it to make it. Some files of `/proc` can be opened by nobody."""

_OWN_WORDS = re.compile(r"\[[WEF]\].*?\(\):\d+ (.*)")
_NO_FAULT = "Process will be "
"""How it begins to tell that the stage's root is root, as far as it can see."""


@dataclass(frozen=True, slots=True)
class Nsjail:
    """nsjail, and the Python, reachable in the room, that runs the loader."""

    program: str
    python: str
    libraries: tuple[str, ...] = ()

    def start(self, room: Room, command: Sequence[str], descriptors: Descriptors) -> Start:
        """How this wrapper is started for a room and the command in it."""
        room = replace(room, steps=tuple(_resolved(step, descriptors) for step in room.steps))
        bound = [step.source for step in room.steps if isinstance(step, words.Shown)]
        layered = [step.source for step in room.steps if isinstance(step, words.Layered)]
        aside = any(_is_within(source, TMP) for source in (*bound, *layered))
        info, errors = descriptors.info(), descriptors.errors()
        loader = descriptors.data(_loader(room, command, info, errors, descriptors.kept()))
        text = configuration(
            room,
            beneath=mounts_beneath(bound, Path(MOUNTS).read_text()),
            aside=aside,
            passed=(*descriptors.kept(), info, errors, loader),
            command=(self.python, "-ISBc", f"exec(open({loader}, 'rb').read())"),
        )
        own_root = [] if any(isinstance(step, words.ClosedRoot) for step in room.steps) else ["--rw"]
        config = descriptors.data_of_one(text.encode())
        prepared = preparation(aside=aside, layered=bool(layered))
        return Start((*own_root, "--config", f"/proc/self/fd/{config}"), prepared)

    @property
    def hides(self) -> tuple[str, ...]:
        """Where the host's `/tmp` is put if it is needed."""
        return (ASIDE,)

    def explained(self, log: str) -> str:
        """Its own warnings and errors without their marks; all that was said, if there are none."""
        lines = [line for line in log.splitlines() if line.strip()]
        own = [match[1] for line in lines if (match := _OWN_WORDS.match(line))]
        return "; ".join(each for each in own if not each.startswith(_NO_FAULT)) or " ".join(lines)


def preparation(*, aside: bool, layered: bool) -> Preparation:
    """A `/tmp` that is the wrapper's alone, for the directories that it makes its room in."""
    cover = "mount -t tmpfs -o mode=0700,size=1m ringfence"
    steps = [
        *([f"mount --rbind {TMP} {ASIDE}"] if aside else []),
        f"{cover} {TMP} && : >{NOTHING}",
        *([f"mkdir {EMPTY}"] if layered else []),
        # Only root's own uid may write there, and then nsjail prefers it.
        f"{{ [ ! -w {USERS} ] || {cover} {USERS}; }}",
    ]
    return Preparation(" && ".join(steps), mounts=True)


def configuration(
    room: Room,
    *,
    beneath: Iterable[str],
    aside: bool,
    passed: Sequence[int],
    command: Sequence[str],
) -> str:
    """The text of the configuration.

    Args:
        room: what is to be made.
        beneath: mount points of the host within what the room shows.
        aside: whether the host's `/tmp` is at `ASIDE`.
        passed: the descriptors that the command is given, besides 0 to 2.
        command: what runs inside.
    """
    fields: list[tuple[str, object]] = [
        ("mode", _Word("ONCE")),
        ("hostname", room.hostname),
        ("cwd", "/"),
        # The supervisor has the clock, and the bootstrap the limits.
        ("time_limit", 0),
        ("disable_rl", True),
        ("keep_env", True),
        ("keep_caps", False),
        ("log_level", _Word("WARNING")),
        ("mount_proc", False),
        ("clone_newnet", room.network),
        # Of what it is itself on the stage, which is root: it would look for users and groups of such a name.
        ("uidmap", (("inside_id", str(room.uid)), ("outside_id", ""), ("count", 1))),
        ("gidmap", (("inside_id", str(room.gid)), ("outside_id", ""), ("count", 1))),
        *(("pass_fd", number) for number in passed),
    ]
    for step in room.steps:
        fields += [("mount", mount) for mount in _mounts(step, beneath, aside)]
    fields.append(("exec_bin", (("path", command[0]), *(("arg", word) for word in command[1:]))))
    return "".join(f"{name} {_value(value)}\n" for name, value in fields)


Mount = tuple[tuple[str, object], ...]


def _mounts(step: Step, beneath: Iterable[str], aside: bool) -> list[Mount]:
    match step:
        case words.Layered(source, at, _):
            options = f"lowerdir={_option(_moved(source, aside))}:{EMPTY},userxattr"
            return [_mount(at, fstype="overlay", options=options, is_dir=True, nosuid=True, nodev=True)]
        case words.Shown(source, at):
            within = sorted(place for place in beneath if _is_within(place, source) and place != source)
            pairs = [(source, at), *((place, at + place[len(source.rstrip("/")) :]) for place in within)]
            return [
                _mount(to, src=_moved(place, aside), is_bind=True, nosuid=True, nodev=True)
                for place, to in pairs
            ]
        case words.HostFiles():
            return [_mount("/", src="/", is_bind=True, rw=True, nosuid=True, is_dir=True)]
        case words.Made(at, content):
            return [_content(at, content)]
        case words.Covered(at, content):
            return [_content(at, content, **_THERE)]
        case words.Link(at, to):
            return [_mount(at, src=to, is_symlink=True)]
        case words.Masked(at):
            return [_mount(at, src="/dev/null", is_bind=True, nosuid=True, noexec=True, **_THERE)]
        case words.Device(source, at):
            return [_mount(at, src=source, is_bind=True, nosuid=True, noexec=True)]
        case words.Proc(at):
            return [_mount(at, fstype="proc", is_dir=True, nosuid=True, nodev=True, noexec=True)]
        case words.Furnished(at):
            options = f"size={words.FURNISHED_BYTES},mode=0755"
            return [_mount(at, fstype="tmpfs", options=options, is_dir=True, nosuid=True, nodev=True)]
        case words.Memory(at, size, mode, read_only):
            options = f"size={size},mode={mode:04o}"
            return [
                _mount(
                    at,
                    fstype="tmpfs",
                    options=options,
                    is_dir=True,
                    rw=not read_only,
                    nosuid=True,
                    nodev=True,
                )
            ]
        case words.Own() | words.Directory() | words.ClosedProc() | words.Closed() | words.ClosedRoot():
            # The first is resolved before. The loader makes the second; the others are closed unless told otherwise.
            return []


def _resolved(step: Step, descriptors: Descriptors) -> Step:
    """A step without links on the way to what it shows: they might lead to where the wrapper sees something else."""
    if isinstance(step, words.Own):
        return words.Shown(os.path.realpath(descriptors.own(step.name)), step.at)
    if isinstance(step, words.Shown | words.Layered):
        return replace(step, source=os.path.realpath(step.source))
    return step


def _option(path: str) -> str:
    """A path among the options of an overlay, where colons and commas stand between such."""
    return re.sub(r"([\\:,])", r"\\\1", path)


def _mount(at: str, **fields: object) -> Mount:
    return (("dst", at), *fields.items())


def _content(at: str, content: bytes, **fields: object) -> Mount:
    if content:
        return _mount(at, src_content=content, nosuid=True, nodev=True, **fields)
    # It takes a file without content for none at all.
    return _mount(at, src=NOTHING, is_bind=True, nosuid=True, nodev=True, **fields)


def _moved(source: str, aside: bool) -> str:
    """Where something of the host is for the wrapper, whose `/tmp` is its own."""
    return f"{ASIDE}{source[len(TMP) :]}" if aside and _is_within(source, TMP) else source


def _is_within(path: str, directory: str) -> bool:
    return path == directory or path.startswith(f"{directory.rstrip('/')}/")


def mounts_beneath(sources: Iterable[str], mountinfo: str) -> tuple[str, ...]:
    """Which mount points are within one of these, by the text of proc_pid_mountinfo(5)."""
    places = (re.sub(r"\\([0-7]{3})", _character, line.split()[4]) for line in mountinfo.splitlines())
    wanted = tuple(sources)
    return tuple(dict.fromkeys(place for place in places if any(_is_within(place, each) for each in wanted)))


def _character(escape: re.Match[str]) -> str:
    return chr(int(escape[1], 8))


@cache
def _loader_source() -> str:
    return Path(__file__).with_name("loader_main.py").read_text()


def _loader(room: Room, command: Sequence[str], info: int, errors: int, kept: tuple[int, ...]) -> bytes:
    """The loader's text, with what it is to do behind it: literals, so that it need not read a format."""
    directories = tuple((step.at, step.mode) for step in room.steps if isinstance(step, words.Directory))
    call = (
        f"main(info={info}, errors={errors}, kept={kept!r}, directories={directories!r}, home={room.directory!r},"
        f" code={room.filter!r}, command={tuple(command)!r})"
    )
    return f"{_loader_source()}\n\n{call}\n".encode()


class _Word(str):
    """A name of the format, which is written without quotes."""


def _value(value: object) -> str:
    """A field's value with what stands before it, in the text format of protocol buffers."""
    match value:
        case tuple():
            return "{ " + " ".join(f"{name} {_value(inner)}" for name, inner in value) + " }"
        case bool():
            return f": {str(value).lower()}"
        case _Word() | int():
            return f": {value}"
        case bytes():
            return f': "{_escaped(value)}"'
        case _:
            return f': "{_escaped(os.fsencode(str(value)))}"'


def _escaped(data: bytes) -> str:
    return "".join(chr(each) if 32 <= each < 127 and each not in b'"\\' else f"\\{each:03o}" for each in data)
