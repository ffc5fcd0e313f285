"""The environment of a script: a curated base, plus the caller's variables, minus those that hijack programs."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

SCRATCH = "/tmp/scratch"  # noqa: S108 - a path inside the sandbox, on a tmpfs of its own
"""Where a script starts and may write: its HOME and working directory, on the same bounded tmpfs as `/tmp`."""

TMPDIR = "/tmp"  # noqa: S108 - as above

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

HOSTNAME = "sandbox"
USER = "sandbox"

PINNED: Mapping[str, str] = {
    "PATH": PATH,
    "HOME": SCRATCH,
    "TMPDIR": TMPDIR,
    "USER": USER,
    "LOGNAME": USER,
    "HOSTNAME": HOSTNAME,
    "SHELL": "/bin/sh",
}
"""The same in every sandbox; a caller cannot override them, since they describe the inside of it."""

_FROM_THE_SUPERVISOR = re.compile(r"LANG|LANGUAGE|LC_[A-Z]+|TZ")
_THEIR_BEGINNINGS = ("LANG", "LC_", "TZ")

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_UNPASSABLE = re.compile("[\0\ud800-\udfff]")
"""What no variable can hold, and halves of surrogate pairs, which are no characters."""

DENIED_NAMES = frozenset(
    {
        "AWKLIBPATH",
        "AWKPATH",
        "BASHOPTS",
        "CDPATH",
        "ENV",
        "EUID",
        "FPATH",
        "GCONV_PATH",
        "GETCONF_DIR",
        "GLOBIGNORE",
        "HISTCMD",
        "HOSTALIASES",
        "IFS",
        "LOCALDOMAIN",
        "LOCPATH",
        "MALLOC_TRACE",
        "NIS_PATH",
        "NLSPATH",
        "NODE_OPTIONS",
        "NODE_PATH",
        "OPENSSL_CONF",
        "OPENSSL_ENGINES",
        "OPENSSL_MODULES",
        "OPTIND",
        "PATH_LOCALE",
        "PPID",
        "PROMPT_COMMAND",
        "PS4",
        "RANDOM",
        "RESOLV_HOST_CONF",
        "RES_OPTIONS",
        "SHELLOPTS",
        "SHLVL",
        "SRANDOM",
        "SSLKEYLOGFILE",
        "TERMCAP",
        "TERMINFO",
        "TERMINFO_DIRS",
        "TZDIR",
        "UID",
        "ZDOTDIR",
        "_JAVA_OPTIONS",
        "JAVA_TOOL_OPTIONS",
        "JDK_JAVA_OPTIONS",
        "CLASSPATH",
    }
)
"""Variables that make a program load, run or trace something else than it would.

Or that are a shell's own: it takes only numbers for some, and no value at all for others, and ends by it. Then no line
of the script has run, and the shell's exit code is taken for the script's.
"""

DENIED_PREFIXES = (
    "BASH_",
    "BUN_",
    "DENO_",
    "DOTNET_",
    "COMPLUS_",
    "CORECLR_",
    "DYLD_",
    "GIT_",
    "GLIBC_",
    "LD_",
    "LUA_",
    "NODE_",
    "NPM_CONFIG_",
    "npm_config_",
    "PERL",
    "PYTHON",
    "RINGFENCE_",
    "RUBY",
    "GEM_",
    "BUNDLE_",
)
"""Prefixes of such variables, whatever the tool adds to them in time."""

HARMLESS = frozenset({"NODE_ENV"})
"""Names under a denied prefix that only carry data, and that scripts commonly need."""


@dataclass(frozen=True, slots=True)
class ScriptEnvironment:
    """What a script gets as its environment.

    `base` when its sandbox is prepared, `extra` at its start; `dropped` names what it doesn't.
    """

    base: Mapping[str, str]
    extra: Mapping[str, str]
    dropped: tuple[str, ...]


def base_environment(supervisor: Mapping[str, str]) -> dict[str, str]:
    """The curated base: the pinned variables, and the language and time zone of the supervisor."""
    # By name first: each value of `os.environ` is decoded when it is asked for.
    names = [name for name in supervisor if name.startswith(_THEIR_BEGINNINGS)]
    inherited = {name: supervisor[name] for name in names if _FROM_THE_SUPERVISOR.fullmatch(name)}
    return {"LANG": "C.UTF-8", **inherited, **PINNED}


def may_pass(name: str) -> bool:
    """Whether a caller may set the variable `name`; also not if a shell could not export it."""
    return (
        _NAME.fullmatch(name) is not None
        and name not in DENIED_NAMES
        and name not in PINNED
        and (name in HARMLESS or not name.startswith(DENIED_PREFIXES))
    )


def _can_be_passed(value: str) -> bool:
    return _UNPASSABLE.search(value) is None


def compose(base: Mapping[str, str], caller: Mapping[str, str]) -> ScriptEnvironment:
    """The environment of a run.

    `base` is the curated one (`base_environment`). Names of the caller's that may not pass are dropped, and named; so
    are those whose value no program can be given, or is no text.
    """
    extra = {name: value for name, value in caller.items() if may_pass(name) and _can_be_passed(value)}
    dropped = tuple(sorted(name for name in caller if name not in extra))
    return ScriptEnvironment(base, extra, dropped)
