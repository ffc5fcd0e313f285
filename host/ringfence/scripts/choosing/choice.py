"""What runs a script: by its kind, its first line, its name and its bytes. Pure.

Threat: a script that is run by something else than what it was written for may do nothing of what it says, and end with
status 0. So nothing is tried that might do: what runs a script is certain, or the run is refused by name.

For `AUTO`, in this order:

1. an ELF file is a program;
2. the first line, if it is `#!`, as the kernel reads it (execve(2): one program, and at most one argument). `sh` and
   `bash` stay what they are. `#!/usr/bin/env python3` is the Python runner, and `#!/usr/bin/env node` the runner of ES
   modules if the script is one. An interpreter by its path, or with arguments, is the program that it names;
3. the suffix of the name. `.sh` is a shell script, and `.js` is an ES module if it imports or exports something, and a
   program of Node.js if not;
4. nothing else: text that is none of these is refused.

A script of a given kind is run by that kind, and one of the kind shell by the shell that its first line names; a first
line that names another language is refused. A shell script without a first line is run by `sh` if none of a list of
patterns is found in it that stand for what `sh` takes otherwise than bash, and by `bash` if one is: a `sh` that does
not know `[[` says so, goes on as if the condition did not hold, and ends with 0, while there is next to nothing that
only `sh` understands. Not covered: what is not in that list, which a shell's own parser alone could make whole.

For all of them, a byte order mark is taken off and the line ends of other systems are mended, with a note; UTF-16 and
other text with zero bytes is refused.
"""

from __future__ import annotations

import functools
import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath

from ringfence.scripts.request import ScriptKind, ScriptRequest

ELF = b"\x7fELF"
UTF8_MARK = b"\xef\xbb\xbf"
WIDE_MARKS = (b"\xff\xfe", b"\xfe\xff", b"\x00\x00\xfe\xff")
"""How UTF-16 and UTF-32 begin."""

MOST_LOOKED_AT = 64 * 1024
"""How much of a script is looked at for what it is written in."""

MOST_REMEMBERED = 16 * 1024
"""What runs a script is remembered of one that is no longer: most are run again and again."""

NAMES: Mapping[ScriptKind, str] = {
    ScriptKind.SHELL: "script.sh",
    ScriptKind.BASH: "script.sh",
    ScriptKind.PYTHON: "script.py",
    ScriptKind.ESM: "script.mjs",
    ScriptKind.PROGRAM: "script",
}
"""What a script's file is called if it has no name."""

MODULE_SUFFIXES = (".mjs", ".js")

_BY_SUFFIX: Mapping[str, tuple[ScriptKind, tuple[str, ...]]] = {
    ".bash": (ScriptKind.BASH, ("bash",)),
    ".py": (ScriptKind.PYTHON, ()),
    ".mjs": (ScriptKind.ESM, ()),
    ".cjs": (ScriptKind.PROGRAM, ("node",)),
    ".pl": (ScriptKind.PROGRAM, ("perl",)),
    ".rb": (ScriptKind.PROGRAM, ("ruby",)),
    ".php": (ScriptKind.PROGRAM, ("php",)),
    ".lua": (ScriptKind.PROGRAM, ("lua",)),
    ".tcl": (ScriptKind.PROGRAM, ("tclsh",)),
    ".awk": (ScriptKind.PROGRAM, ("awk", "-f")),
    ".r": (ScriptKind.PROGRAM, ("Rscript",)),
    ".ksh": (ScriptKind.PROGRAM, ("ksh",)),
    ".zsh": (ScriptKind.PROGRAM, ("zsh",)),
    ".fish": (ScriptKind.PROGRAM, ("fish",)),
}

_ASSIGNED = re.compile(r"[A-Za-z_][A-Za-z0-9_]*=.*")
_ENV_TAKES = frozenset({"-u", "--unset", "-C", "--chdir", "-a", "--argv0"})
"""Options of env(1) whose value is the next word."""

_PYTHON = re.compile(r"python(3(\.\d+)?)?")
_NODE = re.compile(r"node(js)?")
_ENTRY = re.compile(rb"^(async[ \t]+)?def[ \t]+main[ \t]*\([ \t\r\n]*context\b", re.MULTILINE)
_MAIN = re.compile(rb"^[ \t]*(?:(?:async[ \t]+)?def[ \t]+main\b|main[ \t]*=(?!=))", re.MULTILINE)
_USED_MAIN = re.compile(
    rb"^(?![ \t]*(?:(?:async[ \t]+)?def[ \t]+main\b|main[ \t]*=(?!=)|#)).*\bmain\b", re.MULTILINE
)
_MODULE = re.compile(
    rb"""^[ \t]*(?:import(?:[ \t\r\n]+[\w$]|[ \t\r\n]*["'{*])|export(?:[ \t\r\n]+\w|[ \t\r\n]*[{*]))""",
    re.MULTILINE,
)
_BASHISM = re.compile(
    rb"""
      \[\[ | (?<!\$)\(\( | <<< | [<>]\( | \|& | &> | >& [ \t]* [^\s\d&-] | ;;?& | \*\*
    | \$\[ | \$["'] | =~ | (?:\[|\btest)[ \t][^\]]{0,300}[ \t]==[ \t] | \+= | =\( | \]\+?=
    | [@!?*+]\( | \{[^\s{}]*(?:,|\.\.)[^\s{}]*\}
    | \$\{(?: ! | [\w@*]+ (?: \[ | \^ | , | / | :[^-=?+}] | @[A-Za-z]\} ) | \#[\w]+\[ )
    | \$\{?(?:BASH\w*|RANDOM|SECONDS|EPOCH\w+|FUNCNAME|PIPESTATUS|OSTYPE|HOSTTYPE|MACHTYPE|HOSTNAME|UID|EUID|GROUPS
             |SRANDOM|REPLY|SHELLOPTS|SHLVL|DIRSTACK|LINENO|TIMEFORMAT|COPROC|COLUMNS|IFS@)\b
    | \b(?:function|source|declare|typeset|shopt|mapfile|readarray|let|pushd|popd|dirs|coproc|select|caller|enable
         |disown|builtin|compgen|complete|logout|suspend|history|help|pipefail|ERR|DEBUG|RETURN|SIG[A-Z]+|time)\b
    | \b(?:local|readonly|export|wait|exec|hash|pwd|jobs)[ \t]+-(?![pLP]\b) | \btype[ \t]+-
    | \bunset[ \t]+-n | \btrap[ \t]+-[lp]
    | \becho[ \t]+-\w*[eE] | \bprintf[ \t]+-v | %[-\d.]*[q(] | [ \t]-[vRNGO][ \t]+[^\n\]]{1,200}\]
    | \btest[ \t]+(?:![ \t]+)?-[vRNGO]
    | (?:^|[;&|({!]|\b(?:if|then|else|do|while|until)\b) [ \t]* read [ \t]* (?:$|[;&|)])
    | \bread(?:[ \t][^\n;&|]{0,100}-\w{0,20}[a-qs-zA-Z])
    | \bset[ \t][^\n;]{0,100}[-+]\w{0,20}[EHPTBkpt]
    | ^[ \t]*\w*[-:.@+][-\w:.@+]*[ \t]*\([ \t]*\)
    """,
    re.MULTILINE | re.VERBOSE,
)
"""Of what bash understands and POSIX's shell does not, wherever it stands; there is more (https://mywiki.wooledge.org/Bashism).

One too many costs nothing: bash understands the rest, too. One too few may be a system that is called well.
"""

_LANGUAGE = re.compile(
    r"(?P<shell>(?:ba|da|a|k|mk|pdk|lk|rba|po|ya)?sh|busybox|toybox)|(?P<foreign>(?:z|fi|c|tc)sh)"
    r"|(?P<python>(?:python|pypy)[\d.]*)|(?P<node>node|nodejs|deno|bun)"
    r"|(?P<other>perl[\d.]*|ruby[\d.]*|php[\d.]*|lua[\d.]*|luajit|tclsh[\d.]*|wish|expect|[gmn]?awk|sed|make|Rscript)"
)
_MEANT_BY: Mapping[ScriptKind, tuple[str, ...]] = {
    ScriptKind.SHELL: ("shell", "foreign"),
    ScriptKind.BASH: ("shell",),
    ScriptKind.PYTHON: ("python",),
    ScriptKind.ESM: ("node",),
}
"""In what language a first line may be, for each kind."""


class NotRunnable(Exception):
    """There is nothing that certainly runs this script; the text says why, and what to do."""


@dataclass(frozen=True, slots=True)
class Choice:
    """What is run, and by what.

    Attributes:
        kind: the runner; never `AUTO`.
        source: the script's bytes as its file will hold them; None for a command, which has no file.
        name: what that file is called.
        words: the program and its arguments before the file; nothing where the runner knows by itself, or the file is
            the program.
        needs: programs that have to be in the sandbox: paths, or names that are looked for on its PATH.
        notes: what was mended.
    """

    kind: ScriptKind
    source: bytes | None
    name: str = ""
    words: tuple[str, ...] = ()
    needs: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


def choose(request: ScriptRequest) -> Choice:
    """What runs this.

    Raises:
        NotRunnable: if that is not certain.
    """
    if request.command is not None:
        return Choice(ScriptKind.PROGRAM, None, words=request.command, needs=request.command[:1])
    source = request.source
    chosen = _remembered if len(source) <= MOST_REMEMBERED else _chosen
    return chosen(request.kind, request.name, source)


def _chosen(kind: ScriptKind, name: str, source: bytes) -> Choice:
    source, notes = mended(source)
    kind, words = _runner(kind, name, source)
    name = name or NAMES[kind]
    if kind is ScriptKind.ESM and not name.endswith(MODULE_SUFFIXES):
        # By any other name, Node.js takes it for something else.
        name += ".mjs"
    return Choice(kind, source, name, words, needed(words), notes)


_remembered = functools.lru_cache(maxsize=256)(_chosen)


def mended(source: bytes) -> tuple[bytes, tuple[str, ...]]:
    """A script without what other systems add to text, and what was mended. Raises `NotRunnable` for no text."""
    if source.startswith(ELF):
        return source, ()
    first = source[:4096].partition(b"\n")[0]
    if source.startswith(WIDE_MARKS) or b"\0" in first:
        what = (
            "is UTF-16 or UTF-32 text" if source.startswith(WIDE_MARKS) or _is_wide(first) else "is no text"
        )
        raise NotRunnable(f"the script {what}, and no program for Linux either: save it as UTF-8")
    notes = []
    if source.startswith(UTF8_MARK):
        source = source.removeprefix(UTF8_MARK)
        notes.append("a byte order mark was taken off the script's beginning")
    if b"\r" in source and b"\n" not in source:
        source = source.replace(b"\r", b"\n")
        notes.append("the script's line ends were those of another system (CR), and were mended")
    if _has_foreign_ends(source):
        source = source.replace(b"\r\n", b"\n")
        notes.append("the script's line ends were those of another system (CRLF), and were mended")
    return source, tuple(notes)


def _is_wide(line: bytes) -> bool:
    """Whether every second byte is zero, as in UTF-16 without a mark."""
    return len(line) > 1 and (not any(line[1::2]) or not any(line[::2]))


def _has_foreign_ends(source: bytes) -> bool:
    """Whether the first line ends so, or most do; single ones may be meant."""
    foreign, all_ends = source.count(b"\r\n"), source.count(b"\n")
    return foreign > 0 and (source.partition(b"\n")[0].endswith(b"\r") or 2 * foreign > all_ends)


def _runner(kind: ScriptKind, name: str, source: bytes) -> tuple[ScriptKind, tuple[str, ...]]:
    """The runner of a script, and the words of what it runs it by."""
    if source.startswith(ELF):
        if kind not in (ScriptKind.AUTO, ScriptKind.PROGRAM):
            raise NotRunnable(f"the script is an ELF binary, which {kind} cannot run: its kind is program")
        return ScriptKind.PROGRAM, ()
    line = source[:MOST_LOOKED_AT].partition(b"\n")[0]
    by_line = line.startswith(b"#!")
    if kind in _MEANT_BY and by_line:
        _check_language(kind, line)
    if kind is ScriptKind.BASH:
        return kind, ("bash",)
    if kind is ScriptKind.SHELL:
        return _as_shell(interpreter(line), name, source) if by_line else _without_line(source)
    if kind not in (ScriptKind.AUTO, ScriptKind.PROGRAM):
        return kind, ()
    words = interpreter(line) if by_line else ()
    if kind is ScriptKind.PROGRAM:
        if not by_line:
            raise NotRunnable(
                "a script of the kind program needs a first line that names its interpreter, as #!/usr/bin/perl does"
            )
        return kind, words
    return _by_line(words, name, source) if by_line else _by_name(name, source)


def _as_shell(words: tuple[str, ...], name: str, source: bytes) -> tuple[ScriptKind, tuple[str, ...]]:
    """The shell that a shell script's own first line names. Raises `NotRunnable` if it names no shell.

    By another than it was written for, a script may pass over what it does not understand, and end well.
    """
    kind, found = _by_line(words, name, source)
    shells = (env_program(words) or words[0], *words[1:2])
    if kind is ScriptKind.PROGRAM and not any(_language(word) in ("shell", "foreign") for word in shells):
        raise _contradiction(ScriptKind.SHELL, words)
    return kind, found


def _without_line(source: bytes) -> tuple[ScriptKind, tuple[str, ...]]:
    """The shell of a script that names none."""
    is_plain = len(source) <= MOST_LOOKED_AT and _BASHISM.search(source) is None
    return (ScriptKind.SHELL, ()) if is_plain else (ScriptKind.BASH, ("bash",))


def _language(program: str) -> str | None:
    """What an interpreter runs, as far as it is known here."""
    found = _LANGUAGE.fullmatch(PurePosixPath(program).name)
    return None if found is None else found.lastgroup


def _check_language(kind: ScriptKind, line: bytes) -> None:
    """Raises `NotRunnable` if a first line names another language than that of the kind.

    Most of what is written in another language is an error, but not all: `exit` is nothing at all to Python.
    """
    try:
        words = interpreter(line)
        language = _language(env_program(words) or words[0])
    except NotRunnable:
        return  # It names nothing, and is a comment to all of them.
    if language is not None and language not in _MEANT_BY[kind]:
        raise _contradiction(kind, words)


def _contradiction(kind: ScriptKind, words: tuple[str, ...]) -> NotRunnable:
    return NotRunnable(
        f"the script's kind is {kind}, and its first line names {' '.join(words)}: say kind auto, "
        "or change the line"
    )


def interpreter(line: bytes) -> tuple[str, ...]:
    """The program of a first line, and its argument, as the kernel reads them. Raises `NotRunnable`."""
    text = line.removeprefix(b"#!").strip(b" \t\r")
    program = text.replace(b"\t", b" ").partition(b" ")[0]
    try:
        words = tuple(word.decode() for word in (program, text[len(program) :].strip(b" \t")) if word)
    except UnicodeDecodeError:
        raise NotRunnable("the script's first line names an interpreter that is not UTF-8") from None
    if not program.startswith(b"/"):
        shown = line.decode(errors="replace").strip()[:100]
        raise NotRunnable(
            f"the script's first line, {shown!r}, does not name an interpreter by its whole path"
        )
    return words


def env_program(words: tuple[str, ...]) -> str | None:
    """What env(1) would start: None if these words are not env's. Raises `NotRunnable` for no program at all."""
    if not words or PurePosixPath(words[0]).name != "env":
        return None
    rest = list(_split(words[1:]))
    while rest and (rest[0].startswith("-") or _ASSIGNED.fullmatch(rest[0])):
        option = rest.pop(0)
        if option in _ENV_TAKES and rest:
            rest.pop(0)
    if not rest:
        raise NotRunnable(f"the script's first line, {' '.join(words)!r}, names no interpreter")
    return rest[0]


def _split(words: tuple[str, ...]) -> tuple[str, ...]:
    """The words of env after its options `-S` are taken apart, as it does itself."""
    match words:
        case (first, *rest) if first.startswith(("-S", "-vS")):
            text = first.partition("S")[2]
        case (first, *rest) if first.startswith("--split-string="):
            text = first.partition("=")[2]
        case _:
            return words
    try:
        return (*shlex.split(text), *rest)
    except ValueError as error:
        raise NotRunnable(f"the script's first line cannot be read: {error}") from None


def is_for_another_machine(program: bytes, own: bytes) -> bool:
    """Whether an ELF file is for another machine than the one that `own` is for, by their headers (elf(5)).

    A shell that cannot start a program takes it for a script of its own.
    """
    return (program[4:6], program[18:20]) != (own[4:6], own[18:20])


def needed(words: tuple[str, ...]) -> tuple[str, ...]:
    """The programs that have to be there for these words to be run."""
    started = env_program(words)
    return words[:1] if started is None else (words[0], started)


def _by_line(words: tuple[str, ...], name: str, source: bytes) -> tuple[ScriptKind, tuple[str, ...]]:
    started = env_program(words)
    bare = started is not None and len(words) == 2 and started == words[1]
    program = PurePosixPath(started or words[0]).name
    if program == "sh":
        # Without arguments, it is the shell that waits here anyway.
        plain = words in (("/bin/sh",), ("/usr/bin/sh",)) or bare
        return ScriptKind.SHELL, () if plain else words
    if program == "bash":
        return ScriptKind.BASH, words
    if _PYTHON.fullmatch(program) and (bare or (len(words) == 1 and _is_started_by_nobody(source))):
        return ScriptKind.PYTHON, ()
    if _NODE.fullmatch(program) and (bare or len(words) == 1) and _is_module(name, source):
        return ScriptKind.ESM, ()
    return ScriptKind.PROGRAM, words


def _is_started_by_nobody(source: bytes) -> bool:
    """Whether a Python script has a `main` for its context, or one that it does not start itself."""
    if _ENTRY.search(source):
        return True
    return _MAIN.search(source) is not None and b"__main__" not in source and not _USED_MAIN.search(source)


def _by_name(name: str, source: bytes) -> tuple[ScriptKind, tuple[str, ...]]:
    suffix = PurePosixPath(name).suffix.lower()
    if suffix == ".sh":
        return _without_line(source)
    if suffix == ".js":
        return (ScriptKind.ESM, ()) if _is_module(name, source) else (ScriptKind.PROGRAM, ("node",))
    if suffix in _BY_SUFFIX:
        return _BY_SUFFIX[suffix]
    called = f"its name ({name})" if name else "its name (it has none)"
    raise NotRunnable(
        f"nothing says what runs the script: neither a first line like #!/bin/sh nor {called}; "
        "add one, or name its kind"
    )


def _is_module(name: str, source: bytes) -> bool:
    """Whether JavaScript is an ES module, which imports or exports something."""
    return name.lower().endswith(".mjs") or _MODULE.search(source[:MOST_LOOKED_AT]) is not None
