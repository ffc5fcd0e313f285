"""Which programs a script calls that tell of the host, and see the sandbox in its place: a guess. Pure.

A script is not understood here, only looked through for names where a shell would take them for commands, or as the
first word of a text in quotes. What it does in another way is not told, and what is told may never be called.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable

from ringfence.scripts.running.host_tools import BY_NAME, Shown, lacking

LONGEST = 256 * 1024
"""So much of a script is looked through."""

_NAME = "|".join(re.escape(name).replace(r"\ ", r"\s+") for name in sorted(BY_NAME, key=len, reverse=True))
_COMMAND = re.compile(
    # Where a command may begin: a line, what follows a control operator or a reserved word, a text in quotes.
    r"(?:^|[|;&(`{!]|\b(?:then|do|else|if|elif|while|until|exec|sudo|nice|time|env|command)\s|[\"'])[ \t]*"
    # Some variables may be set for it alone; of bounded length, so that no text takes long to look through.
    r"(?:[A-Za-z_]\w{0,40}=[^\s;|&()]{0,80}[ \t]{1,8}){0,4}"
    rf"(?:/[\w./-]*/)?({_NAME})(?![\w./-])(?!\s*(?:[=\[(.,:]|[+*/%-]=))",
    re.MULTILINE,
)
_MODULE = re.compile(r"^\s*(?:import|from)\s+[\w, .]*\b(psutil)\b", re.MULTILINE)
_COMMENT = re.compile(r"^\s*#.*$", re.MULTILINE)


@functools.lru_cache(maxsize=256)
def host_tools_in(text: str) -> tuple[str, ...]:
    """The names of what looks at the host in a script, or in the words of a command, each once, as they come."""
    text = _COMMENT.sub("", text[:LONGEST])
    found = sorted((match.start(1), match[1]) for by in (_COMMAND, _MODULE) for match in by.finditer(text))
    return tuple(dict.fromkeys(" ".join(name.split()) for _, name in found))


def told_of(tools: Iterable[str], shown: Shown) -> str | None:
    """What is to be told of a script that calls these, and is shown so much; None for nothing."""
    parts = [part for tool in dict.fromkeys(tools) if (part := lacking(tool, shown)) is not None]
    if not parts:
        return None
    return f"the script looks at the host, of which the sandbox shows nothing: {'; '.join(parts)}"
