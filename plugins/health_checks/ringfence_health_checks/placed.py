"""Which checks run on a satellite: looked up, so that thousands of checks cost a satellite only its own. Pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from uuid import UUID

from ringfence_satellite.service import AssignedSatellite

from ringfence_health_checks.checks import Check


class Placed:
    """The checks that are enabled (or all of them), by the satellites and the tags that they name."""

    def __init__(self, checks: Iterable[Check], *, also_disabled: bool = False) -> None:
        self._by_satellite: defaultdict[UUID, list[Check]] = defaultdict(list)
        self._by_tag: defaultdict[str, list[Check]] = defaultdict(list)
        for check in checks:
            if check.definition.enabled or also_disabled:
                for satellite in check.definition.runs_on.satellites:
                    self._by_satellite[satellite].append(check)
                for tag in check.definition.runs_on.tags:
                    self._by_tag[tag].append(check)

    def on(self, satellite: AssignedSatellite) -> Sequence[Check]:
        """The checks that a satellite is to run, by name."""
        found = {check.id: check for check in self._by_satellite.get(satellite.id, ())}
        for tag in satellite.tags:
            found.update((check.id, check) for check in self._by_tag.get(tag, ()))
        return sorted(found.values(), key=lambda check: check.definition.name)
