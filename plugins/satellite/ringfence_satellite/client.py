"""Satellites as commands see them through a host's API; the commands of other plugins may, too."""

from __future__ import annotations

import json
from collections.abc import Iterator
from http.client import NOT_FOUND
from typing import TYPE_CHECKING, Any

from ringfence.cli import ApiError, HostClient, lists, names_from

if TYPE_CHECKING:
    from pathlib import Path

SATELLITES = "/api/satellite/satellites"
NAMES = names_from(SATELLITES, "satellites")
"""Completes the name of a satellite."""
LABELS = names_from(SATELLITES, "satellites", lambda one: one["tags"])
"""Completes a label without a value."""
REGIONS = names_from(SATELLITES, "satellites", "region")
"""Completes a region."""
LOCAL_NOTE = "local-satellite.json"
"""The file in a data directory that says which satellite is the one that `ringfence up` connects there."""


def every(host: HostClient, filters: lists.Params | None = None) -> Iterator[dict[str, Any]]:
    """The satellites that are as the API's `filters` say, by name; however many there are."""
    return lists.every(host, SATELLITES, "satellites", filters)


def find(host: HostClient, name_or_id: str) -> dict[str, Any]:
    """The satellite of that id or name.

    Raises:
        CliError: if there is none, naming some that there are.
    """
    how = "No satellite is registered yet: `ringfence satellite create NAME`."
    return lists.one(host, SATELLITES, "satellites", name_or_id, what="satellite", how_to_make=how)


def local_id(data_dir: Path) -> str | None:
    """The id of the satellite that `ringfence up` has registered for a data directory; None if it never has."""
    try:
        note = json.loads((data_dir / LOCAL_NOTE).read_text())
    except (OSError, ValueError):
        return None
    return str(note["id"]) if isinstance(note, dict) and "id" in note else None


def connected(host: HostClient, satellite_id: str) -> dict[str, Any] | None:
    """The satellite as the host sees it, once it is online and has applied a policy; until then None."""
    try:
        satellite: dict[str, Any] = host.request("GET", f"{SATELLITES}/{satellite_id}")
    except ApiError as error:
        if error.status == NOT_FOUND:
            return None
        raise
    is_ready = satellite["status"] == "online" and satellite.get("appliedRevision") is not None
    return satellite if is_ready else None
