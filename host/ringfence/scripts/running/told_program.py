"""Whether what is run is a program that tells of the host, for certain, and what it lacks to tell the truth. Pure.

Of a command that is certain by its name, and of a script if it is a plugin by its name, or consists of nothing but one
such command: whatever it says, it says of what that command has seen. Any other script is only told so (see
`told_in_text`).
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Sequence
from pathlib import PurePosixPath

from ringfence.scripts.choosing.choice import Choice
from ringfence.scripts.request import ScriptKind
from ringfence.scripts.running.host_tools import (
    BY_NAME,
    MEASURING,
    OF_MUNIN,
    READING,
    Shown,
    lacking,
    lacking_for,
    of_a_user,
)

_STARTERS = frozenset(
    [
        "busybox",
        "chrt",
        "env",
        "exec",
        "ionice",
        "negate",
        "nice",
        "nohup",
        "setsid",
        "stdbuf",
        "timeout",
        "toybox",
        "urlize",
    ]
)
"""Programs, and a word of the shell, that start another one, which stands in their words."""
_SHELLS = frozenset({"sh", "bash", "dash", "ksh", "zsh"})
_ASSIGNED = re.compile(r"[A-Za-z_]\w*=")
_INTERPRETER = re.compile(r"perl|(?:python|ruby|php|lua)[\d.]*")
_MUNIN = ("/usr/share/munin/plugins/", "/usr/lib/munin/plugins/", "/etc/munin/plugins/")
_OF_PROCESSES = frozenset({"check_procs", "pgrep", "ps", "top"})
_OF_A_USER = re.compile(r"-[fel]?[uU]|--(?:user|User|euid|uid|ruid)\b")
"""Options by which these choose the processes of a user."""
_PLUGIN = re.compile(r"(?:pmp-)?check[_-].+")
_NOT_ONE_COMMAND = re.compile(r"[;&|<>()`$\\\n]")
"""What makes more of a line than words, or words that are not known yet."""
_ALL_OF_THEM = frozenset({"-A", "--all", "-r", "-R", "--ereg-path", "--eregi-path", "-x", "--exclude_device"})
"""Options of `check_disk` by which paths are not what is measured."""
_LOOKED_AT = 4096


def untold(choice: Choice, args: Sequence[str], shown: Shown) -> str | None:
    """Why what is run with these arguments cannot tell of the host, though it would; None if it can, or never does."""
    words = _words_of(choice, args)
    if not words:
        return None
    # A link may have any name, and a program be one of many that are the same file.
    names = dict.fromkeys((words[0], shown.leads_to(words[0])))
    return next(
        (reason for name in names if (reason := _untold(choice, name, words[1:], shown)) is not None), None
    )


def _untold(choice: Choice, path: str, words: Sequence[str], shown: Shown) -> str | None:
    """The same for a program by one of its paths, and what it is given."""
    tool = PurePosixPath(path).name
    if path.startswith(_MUNIN) and (like := _like(tool)) is not None:
        reason = lacking(like, shown) or (_unmeasured(like, words, shown) if like in MEASURING else None)
        return None if reason is None else f"{tool} tells what {like} tells, and {reason}"
    if f"{tool} {' '.join(words[:1])}" in BY_NAME:
        tool = f"{tool} {words[0]}"
    if (reason := lacking(tool, shown)) is not None:
        return reason
    if tool in _OF_PROCESSES and any(map(_OF_A_USER.match, words)):
        return of_a_user(tool)
    if tool in MEASURING:
        return _unmeasured(tool, words, shown)
    if tool in READING and choice.source is None:
        reasons = (lacking_for(tool, path, shown) for path in _paths_in(words))
        return next((reason for reason in reasons if reason is not None), None)
    return None


def _words_of(choice: Choice, args: Sequence[str]) -> list[str]:
    """The program that is run at last and what it is given, as far as that is known; nothing if it is not."""
    if choice.source is None:
        return _started([*choice.words, *args])
    if choice.kind is ScriptKind.PROGRAM:
        name = PurePosixPath(choice.name).stem if choice.name.endswith((".pl", ".py")) else choice.name
        return [name, *args] if _PLUGIN.fullmatch(name) else []
    if choice.kind in (ScriptKind.SHELL, ScriptKind.BASH) and len(choice.source) <= _LOOKED_AT:
        return _started(_only_command(choice.source.decode(errors="replace")))
    return []


def _started(words: list[str]) -> list[str]:
    """The words of the program that these start, be it by another one."""
    while words:
        if _ASSIGNED.match(words[0]):
            words = words[1:]
            continue
        program = PurePosixPath(words[0]).name
        if program in _SHELLS and words[1:2] == ["-c"] and len(words) > 2:
            words = _only_command(words[2])
            continue
        if program not in _STARTERS | _SHELLS and not _INTERPRETER.fullmatch(program):
            return words
        words = _behind(words[1:])
    return []


def _behind(words: list[str]) -> list[str]:
    """What another program starts of these words: from the first on that is a path, or is known to tell of the host."""
    for at, word in enumerate(words):
        if word.startswith("/") or word in BY_NAME or word in READING or word in _STARTERS | _SHELLS:
            return words[at:]
    return []


def _only_command(text: str) -> list[str]:
    """The words of the one command that a shell script consists of; nothing if there is more to it."""
    lines = [line for line in map(str.strip, text.splitlines()) if line and not line.startswith("#")]
    if lines[:1] and re.fullmatch(r"set( -[a-z]+)+", lines[0]):
        del lines[0]
    if len(lines) != 1 or _NOT_ONE_COMMAND.search(lines[0]):
        return []
    try:
        return shlex.split(lines[0], comments=True)
    except ValueError:
        return []


def _like(plugin: str) -> str | None:
    """The program whose lack is that of a plugin of munin's; None for one that is known by its own name, or not."""
    if plugin in OF_MUNIN:
        return OF_MUNIN[plugin]
    wildcards = [name for name in OF_MUNIN if name.endswith("_") and plugin.startswith(name)]
    return OF_MUNIN[max(wildcards, key=len)] if wildcards else None


def _unmeasured(tool: str, words: Sequence[str], shown: Shown) -> str | None:
    """What is named to a program that measures file systems, and cannot be measured."""
    paths = [] if _ALL_OF_THEM.intersection(words) else list(_paths_in(words))
    if not paths:
        return (
            f"{tool} measures all file systems, of which a run has some of its own: name those that are meant"
        )
    unseen = [path for path in paths if not shown.measures(path)]
    return f"{tool} is not shown the file system of {unseen[0]}: name where it is mounted" if unseen else None


def _paths_in(words: Sequence[str]) -> Iterator[str]:
    """The absolute paths among these words, by themselves or behind an option."""
    for word in words:
        found = re.fullmatch(r"(?:--?[\w-]+=|-[A-Za-z])?(/.*)", word)
        if found is not None:
            yield str(PurePosixPath(found[1]))
