"""The protocol between a host and its satellites, from the models of its frames."""

from __future__ import annotations

from collections.abc import Iterator
from types import ModuleType

from ringfence_satellite.protocol import from_host, from_satellite
from ringfence_satellite.protocol.frame import PATH, Frame

from tools.site.tables import code, fields, table

_HEAD = f"""# The protocol of satellites

JSON text frames over one WebSocket at `{PATH}`. The member `type` says what a frame is; types and members
that are unknown are passed over, so that old and new can talk. What a frame may hold is bounded, and one that
breaks its bounds ends the connection. [Satellites](../satellites.md#on-the-wire) tells how the frames go
together.

"""


def page() -> str:
    """The page."""
    parts = ["## From the host\n", *_told(from_host), "## From the satellite\n", *_told(from_satellite)]
    return _HEAD + "\n".join(parts)


def _told(module: ModuleType) -> Iterator[str]:
    for one in vars(module).values():
        if isinstance(one, type) and issubclass(one, Frame) and "TYPE" in vars(one):
            yield f"### {one.TYPE}\n"
            yield f"{(one.__doc__ or '').strip().replace(chr(10) + '    ', chr(10))}\n"
            found = fields(one.model_json_schema(by_alias=True))
            rows = [(code(path), kind, default, meaning) for path, kind, default, meaning in found]
            yield table(("field", "value", "default", "meaning"), rows)
