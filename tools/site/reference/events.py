"""The events of the host and of its plugins, from the models that they are declared with."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby

from ringfence.hooks.directory import DeclaredHook
from ringfence.host import Host

from tools.site.tables import code, fields, table

_HEAD = """# Events

What is recorded in the event log, and can start [automations](../automations.md) and
[notifications](../notifications.md). Plugins subscribe to them as [hooks](../built-in-plugins.md). `ringfence
automation triggers` lists the same of your own host.

"""


def page(host: Host) -> str:
    """The page."""
    found = sorted(host.runtime.hooks.all(), key=lambda one: (one.plugin, one.name))
    parts = []
    for plugin, declared in groupby(found, key=lambda one: one.plugin):
        parts += [f"## {plugin}\n", *(line for one in declared for line in _told(one))]
    return _HEAD + "\n".join(parts)


def _told(one: DeclaredHook) -> Iterator[str]:
    rule = f"shown to holders of `{one.payload_rule}`" if one.payload_rule else "shown to nobody over HTTP"
    yield f"### {one.name}\n"
    yield f"{one.meaning} What it holds is {rule}.\n"
    schema = one.model.model_json_schema(by_alias=True, mode="serialization")
    rows = [(code(path), kind, meaning) for path, kind, _, meaning in fields(schema)]
    yield table(("field", "value", "meaning"), rows)
