"""What may be told of an error or a setting, in a log or to a stranger: what is wrong, and nobody's secret. Pure.

Threat: an error quotes what it failed at. A database's error tells the parameters of its statement and the row that did
not fit, a proxy's error the proxy's password, a library's error a URL with a token in it; and logs are read by many,
kept for long and sent elsewhere. Mechanism: those who tell of an error use `describe`, which leaves out what the
database says beside its message; and whatever is logged all the same passes through `redacted` at the edge, where what
looks like a password, a token, parameters or a row is taken out. Not covered: a secret in a form that nothing here
knows, such as the words of a script in the message of an error of its own.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from pydantic import ValidationError

from ringfence.refusals import in_words

HIDDEN = "…"

_TOLD = r"DETAIL|CONTEXT|QUERY|STATEMENT|LINE \d+"
_NAMES = r"password|passwd|pwd|secret|token|api[_-]?key|secrets[_-]key|private[_-]key"
_SECRET_NAME = re.compile(rf"(?i)[\w-]*(?:{_NAMES})")
_RULES = tuple(
    (re.compile(pattern), replacement)
    for pattern, replacement in (
        # What the database tells beside its message (rows, keys, documents, statements), and what it quotes in it.
        (rf"(?m)(?<![A-Z])({_TOLD}):[ \t].*?(?=\\n|$)", rf"\1: {HIDDEN}"),
        (r"(?s)\[parameters: .*?\](?=\s*(?:\n|\\n|$|\(Background))", f"[parameters: {HIDDEN}]"),
        (r"(?m)(invalid input (?:syntax|value) for [^:\n]*: ).*?(?=\\n|$)", rf"\1{HIDDEN}"),
        (r'(?m)(\bvalue ").*(" is out of range)', rf"\1{HIDDEN}\2"),
        # What a model refuses.
        (r"(?s)\binput_value=.*?(, input_type=)", rf"input_value={HIDDEN}\1"),
        # Passwords in URLs, with or without a scheme: the last @ of a word ends them.
        (r"(://)[^\s'\"<>]*@", rf"\1{HIDDEN}@"),
        (r"(?<![\w./:-])[\w.+%-]+:[^\s@'\"<>/]+@(?=[\w\[])", f"{HIDDEN}@"),
        # Tokens and keys: ours, in headers, in queries and in settings.
        (r"\brf([th])_[\w-]{8,}", rf"rf\1_{HIDDEN}"),
        (r"(?i)\b(Bearer|Basic)(\s+)[\w.~+/=-]{6,}", rf"\1\2{HIDDEN}"),
        (rf"(?i)\b([\w-]*(?:{_NAMES}))(=|%3D|['\"]?:\s*['\"])([^\s&'\"#;,]+)", rf"\1\2{HIDDEN}"),
    )
)


def redacted(text: str) -> str:
    """`text` without what looks like a secret, or like what a statement was given."""
    for pattern, replacement in _RULES:
        text = pattern.sub(replacement, text)
    return text


def names_secret(name: str) -> bool:
    """Whether what has this name is a secret."""
    return _SECRET_NAME.fullmatch(name) is not None


def redacted_value(name: str, value: object) -> object:
    """A value of a log by its name: as `redacted`, also within lists and mappings; all of it, if it is a secret."""
    if names_secret(name) and value not in (None, ""):
        return HIDDEN
    if isinstance(value, str):
        return redacted(value)
    if isinstance(value, Mapping):
        return {str(key): redacted_value(str(key), one) for key, one in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [redacted_value(name, one) for one in value]
    return value if value is None or isinstance(value, int | float) else redacted(str(value))


def describe(error: BaseException) -> str:
    """The kind of an error and its message, on one line, without what may be nobody's business."""
    cause = getattr(error, "orig", None)
    message = redacted(_message(error if cause is None else cause)).strip()
    return f"{type(error).__name__}: {message}" if message else type(error).__name__


def problems(error: ValidationError) -> str:
    """What a model refuses and why, without what it was given."""
    found = error.errors(include_input=False, include_url=False, include_context=False)
    return "; ".join(f"{'.'.join(map(str, one['loc'])) or 'all of it'}: {in_words(one)}" for one in found)


def _message(error: BaseException) -> str:
    """What the database or a model says is wrong, without the values that it quotes; of another error, what it says."""
    if isinstance(error, ValidationError):
        return problems(error)
    primary = getattr(getattr(error, "diag", None), "message_primary", None)
    if primary is None:
        return " ".join(str(error).split())
    return re.sub(r'"[^"]*"', f'"{HIDDEN}"', primary) if _quotes_values(error) else str(primary)


def _quotes_values(error: BaseException) -> bool:
    """Whether the quotes in its message hold what was given, rather than the name of a table (SQLSTATE class 22)."""
    return str(getattr(error, "sqlstate", "") or "").startswith("22")
