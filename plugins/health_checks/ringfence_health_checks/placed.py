"""Which checks run on a satellite: looked up, so that thousands of checks cost a satellite only its own. Pure.

A selector that asks for a label by its value is looked up by that, one that asks for a label by its name by this, and
the rest are asked one by one. Of several labels it is looked up by the one that the fewest selectors ask for.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from uuid import UUID

from ringfence_satellite.service import AssignedSatellite, Selector

from ringfence_health_checks.checks import Check


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
        self._by_text: defaultdict[str, list[Selector]] = defaultdict(list)
        self._by_key: defaultdict[str, list[Selector]] = defaultdict(list)
        self._others: list[Selector] = []
        self._checks = checks
        asked = Counter(text for one in checks for texts in _alternatives(one) for text in texts)
        for selector in checks:
            if alternatives := _alternatives(selector):
                for text in min(alternatives, key=lambda texts: sum(asked[text] for text in texts)):
                    self._by_text[text].append(selector)
            elif keys := [one.key for one in selector.requirements if one.needs_label]:
                self._by_key[keys[0]].append(selector)
            else:
                self._others.append(selector)

    def on(self, satellite: AssignedSatellite) -> Iterator[Check]:
        for selector in self._possible(satellite):
            if selector.matches(satellite.labels):
                yield from self._checks[selector]

    def _possible(self, satellite: AssignedSatellite) -> Iterator[Selector]:
        """All that may mean the satellite."""
        for text in satellite.tags:
            yield from self._by_text.get(text, ())
        for key in satellite.labels:
            yield from self._by_key.get(key, ())
        yield from self._others


def _alternatives(selector: Selector) -> list[frozenset[str]]:
    """For each label that a selector asks for by its value: as which texts a satellite may carry it."""
    return [texts for one in selector.requirements if (texts := one.texts) is not None]
