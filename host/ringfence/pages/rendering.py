"""Templates: Jinja2 with every value escaped and none missing, and the filters that all pages share.

Threat: a name, an output or a reason that somebody else has written is markup to the browser, or reads as something
else (control characters, letters that turn a line around). Mechanism: all values are escaped; `name` also spells out
what cannot be seen, keeps the direction of what it shows to itself, and cuts what is too long. Not covered: letters of
other alphabets that look alike.
"""

from __future__ import annotations

import datetime as dt
import difflib
import json
import re
import unicodedata
from collections.abc import Mapping, Sequence
from typing import Any

import jinja2
from jinja2.bccache import Bucket
from markupsafe import Markup, escape

from ringfence.pages.declared import Page, Pages, PagesError, Panel

LONGEST_NAME = 200
MOST_COMPARED = 1000
"""How many lines of two texts are compared: it takes the square of that at worst."""
MOST_DIFFERENT = 300
_ROLES = {"tr": "row", "th": "rowheader", "td": "cell"}
_OF_ROWS = re.compile(r"<(tr|th|td)((?: [^>]*)?)>(?=(\s*(?:<bdi>)?–?(?:</bdi>)?\s*</td>)?)")
_HIDDEN = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff\U000e0000-\U000e007f]"
)


def spelt_out(text: object) -> str:
    """`text` with what cannot be seen, or turns around what can, written as its number."""
    words = str(text)
    if words.isascii() and words.isprintable():
        return words
    return _HIDDEN.sub(lambda found: f"\\u{ord(found[0]):04x}", unicodedata.normalize("NFC", words))


def name(value: object, longest: int = LONGEST_NAME) -> Markup:
    """A short text that somebody else has chosen: it cannot be mistaken for more than one."""
    # Put together here: `Markup.format` takes twenty times as long, and a page has hundreds of names.
    text = spelt_out(value)
    cut = f'<span class="cut"> … {len(text)} characters</span>' if len(text) > longest else ""
    return Markup(f"<bdi>{escape(text[:longest])}</bdi>{cut}")  # noqa: S704


def when(moment: dt.datetime | str | None, never: str = "never") -> Markup:
    """A time: how long ago it is, made so by our script, and exact until then and for whoever points at it."""
    if moment is None:
        return escape(never)
    at = dt.datetime.fromisoformat(moment) if isinstance(moment, str) else moment
    exact = at.astimezone(dt.UTC).isoformat(timespec="seconds")
    shown = exact.replace("T", " ").replace("+00:00", " UTC")
    # Of a time's digits and signs, none is markup.
    return Markup(f'<time datetime="{exact}" title="{shown}">{shown}</time>')  # noqa: S704


def labelled(rows: Markup, head: Sequence[str | Mapping[str, str]]) -> Markup:
    """A table's rows with what each part is, and at each cell the words above its column, for narrow windows.

    A cell with nothing in it, or with a dash, is marked: where there are no columns, it need not be there.
    """
    words = [one if isinstance(one, str) else one["words"] for one in head]
    labels = [f' data-label="{escape(one)}"' if one else "" for one in words]
    column = 0

    def told(found: re.Match[str]) -> str:
        nonlocal column
        kind, given, nothing = found.groups()
        column = 0 if kind == "tr" else column + 1
        label = labels[column - 1] if kind == "td" and column <= len(labels) else ""
        return f'<{kind}{given} role="{_ROLES[kind]}"{label}{" data-none" if nothing else ""}>'

    # What is in a row's words is escaped: what looks like a tag is one of a template's.
    return Markup(_OF_ROWS.sub(told, rows))  # noqa: S704


def as_json(document: object) -> str:
    """A document as people read it; escaped like all else."""
    return spelt_out(json.dumps(document, indent=2, ensure_ascii=False, default=str))


def difference(old: str, new: str) -> list[tuple[str, str]]:
    """What differs between two texts: their lines, each with `-`, `+` or a space, and `…` where some are left out."""
    before, after = (text.splitlines()[:MOST_COMPARED] for text in (old, new))
    found = []
    for line in difflib.unified_diff(before, after, lineterm="", n=2):
        if line.startswith("@@"):
            found.append(("…", ""))
        elif not line.startswith(("---", "+++")) or found:
            found.append((line[0], line[1:]))
    shown = found[1 : MOST_DIFFERENT + 1]
    whole = len(found) <= MOST_DIFFERENT + 1 and max(old.count("\n"), new.count("\n")) < MOST_COMPARED
    return shown if whole else [*shown, ("…", "more lines are not shown")]


class _Compiled(jinja2.BytecodeCache):
    """What templates compile to, for as long as the process runs: that takes longer than all else of a host's start."""

    def __init__(self) -> None:
        self._code: dict[tuple[str, str], Any] = {}

    def load_bytecode(self, bucket: Bucket) -> None:
        """Take what the same text was compiled to before."""
        bucket.code = self._code.get((bucket.key, bucket.checksum))

    def dump_bytecode(self, bucket: Bucket) -> None:
        """Keep what a text was compiled to."""
        self._code[bucket.key, bucket.checksum] = bucket.code


_COMPILED = _Compiled()
"""One for all: a template is checked when a plugin declares it, and shown by another environment of the same kind."""


class Templates:
    """The templates of the host and of every plugin that has pages."""

    def __init__(self, packages: Mapping[str, str]) -> None:
        """`packages` by plugin. Raises `ValueError` where one has no folder `templates`."""
        own = jinja2.PackageLoader("ringfence.pages")
        of_plugins = {plugin: jinja2.PackageLoader(package) for plugin, package in packages.items()}
        self._environment = jinja2.Environment(
            loader=jinja2.ChoiceLoader([jinja2.PrefixLoader(of_plugins), own]),
            autoescape=True,
            undefined=jinja2.StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
            auto_reload=False,
            bytecode_cache=_COMPILED,
        )
        self._environment.filters.update(
            difference=difference,
            labelled=labelled,
            name=name,
            when=when,
            spelt_out=spelt_out,
            as_json=as_json,
        )

    def check(self, template: str) -> None:
        """Raise `jinja2.TemplateError` where a template is not there, or cannot be read."""
        self._environment.get_template(template)

    def render(self, template: str, values: Mapping[str, Any]) -> str:
        """Fill a template."""
        return self._environment.get_template(template).render(values)


def check_templates(plugin: str, declared: Pages) -> None:
    """Raise `PagesError` where a template that a plugin names is not there, or cannot be read."""
    try:
        templates = Templates({plugin: declared.package})
    except (ValueError, ImportError) as error:
        raise PagesError(
            f"the package {declared.package} of its pages has no folder templates: {error}"
        ) from error
    shown: list[Page | Panel] = [*declared.pages, *declared.panels]
    for one in shown:
        try:
            templates.check(f"{plugin}/{one.template}")
        except jinja2.TemplateError as error:
            raise PagesError(f"the template {one.template} cannot be used: {error}") from error
