"""Which checks run on a satellite: looked up, so that thousands of checks cost a satellite only its own. Pure.

A selector that asks for a label is looked up by that, of several by the one that the fewest selectors ask for. One that
only excludes labels is asked each time.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from uuid import UUID

from ringfence_satellite.service import AssignedSatellite, Selector

from ringfence_health_checks.definitions.checks import Check


class Placed:
    """The checks that are enabled (or all of them), by the satellites, the tags and the labels that they name."""

    def __init__(self, checks: Iterable[Check], *, also_disabled: bool = False) -> None:
        self._by_satellite: defaultdict[UUID, list[Check]] = defaultdict(list)
        self._by_tag: defaultdict[str, list[Check]] = defaultdict(list)
        by_selector: defaultdict[Selector, list[Check]] = defaultdict(list)
        for check in checks:
            if check.definition.enabled or also_disabled:
                for satellite in check.definition.runs_on.satellites:
                    self._by_satellite[satellite].append(check)
                for tag in check.definition.runs_on.tags:
                    self._by_tag[tag].append(check)
                if (selector := check.definition.runs_on.selector) is not None:
                    by_selector[selector].append(check)
        self._selected = _Selected(by_selector)

    def on(self, satellite: AssignedSatellite) -> Sequence[Check]:
        """The checks that a satellite is to run, by name."""
        found = {check.id: check for check in self._by_satellite.get(satellite.id, ())}
        for tag in satellite.tags:
            found.update((check.id, check) for check in self._by_tag.get(tag, ()))
        for check in self._selected.on(satellite):
            found[check.id] = check
        return sorted(found.values(), key=lambda check: check.definition.name)


class _Selected:
    """The checks of each selector; every selector is there once, however many checks have it."""

    def __init__(self, checks: Mapping[Selector, Sequence[Check]]) -> None:
        self._by_label: defaultdict[_Label, list[Selector]] = defaultdict(list)
        self._others: list[Selector] = []
        self._checks = checks
        labels = {selector: _asked_for(selector) for selector in checks}
        asked = Counter(label for found in labels.values() for some in found for label in some)
        for selector, found in labels.items():
            if not found:
                self._others.append(selector)
                continue
            for label in min(found, key=lambda some: sum(asked[label] for label in some)):
                self._by_label[label].append(selector)

    def on(self, satellite: AssignedSatellite) -> Iterator[Check]:
        for selector in self._possible(satellite):
            if selector.matches(satellite.labels):
                yield from self._checks[selector]

    def _possible(self, satellite: AssignedSatellite) -> Iterator[Selector]:
        """All that may mean the satellite."""
        for text in satellite.tags:
            yield from self._by_label.get((False, text), ())
        for name in satellite.labels:
            yield from self._by_label.get((True, name), ())
        yield from self._others


_Label = tuple[bool, str]
"""A label as a selector asks for it: whether by its name alone, and the name, or the text as which it is carried."""


def _asked_for(selector: Selector) -> list[frozenset[_Label]]:
    """For each label that a selector asks for: as what it may be found."""
    return [
        frozenset({(True, one.key)} if one.texts is None else {(False, text) for text in one.texts})
        for one in selector.requirements
        if one.needs_label
    ]
