"""Which line of a script's output says most to a person. Pure."""

from __future__ import annotations

import re

_TRACEBACK = "Traceback (most recent call last):"
_FRAME = re.compile(r"\s+at .")
"""A line of a stack as V8 prints it: `    at main (file:///…:1:7)`."""


def last_line(text: str) -> str:
    """The last line of `text` that is not blank, without the blanks around it."""
    return next((line.strip() for line in reversed(text.splitlines()) if line.strip()), "")


def first_line(text: str) -> str:
    """The first line of `text` that is not blank, without the blanks around it."""
    return next((line.strip() for line in text.splitlines() if line.strip()), "")


def uncaught(stderr: str) -> str:
    """The line that names the exception that ended a program, as Python or Node.js printed it; empty if none did."""
    lines = stderr.splitlines()
    for number in range(len(lines) - 1, -1, -1):
        if lines[number].strip() == _TRACEBACK:
            return _named_by_python(lines[number + 1 :])
        if _FRAME.match(lines[number]):
            return _named_by_node(lines[:number])
    return ""


def _named_by_python(below: list[str]) -> str:
    """After the indented lines of the stack comes the exception, whose text may have several lines."""
    for line in below:
        if line.strip() and not line.startswith((" ", "\t")):
            return line.strip()
    return ""


def _named_by_node(above: list[str]) -> str:
    """Above the whole stack stands the exception; its own text may have several lines, of which the first names it."""
    while above and _FRAME.match(above[-1]):
        above = above[:-1]
    for line in reversed(above):
        if re.match(r"(Uncaught )?[A-Za-z_$][\w$.]*(Error|Exception)?\b.*:|[A-Za-z_$][\w$]*Error$", line):
            return line.strip()
    return last_line("\n".join(above))
