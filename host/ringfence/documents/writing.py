"""Writes JSON values as YAML that is read as the same values again. Pure."""

from __future__ import annotations

import json
import re
from typing import Any

import yaml

from ringfence.documents.reading import NotReadableError, documents

_PLAIN = re.compile(r"[A-Za-z_][A-Za-z0-9_ ./()-]*|(?:[0-9]+(?:ms|[smhd]))+")
_WORDS = frozenset({"null", "true", "false"})


class _Writer(yaml.SafeDumper):  # type: ignore[misc]
    """Texts of several lines as they stand; whatever else may be read as no text between quotation marks."""

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:
        super().increase_indent(flow, False)

    def ignore_aliases(self, data: Any) -> bool:
        return True


def _text(writer: yaml.SafeDumper, text: str) -> yaml.Node:
    if "\n" in text:
        return writer.represent_scalar("tag:yaml.org,2002:str", text, style="|")
    is_plain = _PLAIN.fullmatch(text) is not None and text.lower() not in _WORDS
    style = None if is_plain else "'" if '"' in text else '"'
    return writer.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_BOOL = "tag:yaml.org,2002:bool"
_Writer.add_representer(str, _text)
# `on` is a text in YAML 1.2.
_Writer.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in several if tag != _BOOL]
    for first, several in yaml.SafeDumper.yaml_implicit_resolvers.items()
}
_Writer.add_implicit_resolver(_BOOL, re.compile("^(?:true|false)$"), list("tf"))


def as_yaml(document: dict[str, Any]) -> str:
    """The document as people write it."""
    text: str = yaml.dump(
        document, Dumper=_Writer, sort_keys=False, allow_unicode=True, width=10_000, default_flow_style=False
    )
    try:
        if [one.value for one in documents(text)] == [document]:
            return text
    except NotReadableError:
        pass
    # There are texts that YAML has no plain way to write: JSON is YAML, too.
    return json.dumps(document, indent=2, ensure_ascii=True) + "\n"
