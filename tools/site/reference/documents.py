"""The kinds of documents that `ringfence apply` takes, from their schemas."""

from __future__ import annotations

from typing import Any

from ringfence.declaring import ObjectKind
from ringfence.declaring.schemas import schema_of
from ringfence.host import Host

from tools.site.tables import code, fields, table

_HEAD = """# Documents

The kinds of documents that [`ringfence apply`](../configuration-as-code.md) takes. `ringfence schema KIND`
prints the JSON Schema of one, for editors.

"""


def page(host: Host) -> str:
    """The page."""
    kinds: list[ObjectKind[Any]] = sorted(
        host.runtime.services.extensions(ObjectKind), key=lambda one: one.order
    )
    parts = []
    for one in kinds:
        schema = schema_of(one)
        spec = {**schema["properties"]["spec"], "$defs": schema.get("$defs", {})}
        rows = [(code(path), kind, default, meaning) for path, kind, default, meaning in fields(spec)]
        parts.append(f"## {one.kind}\n\n{one.what}\n\n{table(('spec', 'value', 'default', 'meaning'), rows)}")
    return _HEAD + "\n".join(parts)
