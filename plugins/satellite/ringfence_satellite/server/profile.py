"""What an administrator has said of a satellite, as far as what it is told to do may depend on it. Pure.

Labels without a value are stored as tags, where earlier releases keep theirs; those with a value have a place of their
own, which earlier releases neither read nor write. So an instance of an earlier release beside this one may show and
replace tags, and no label with a value and no var is lost by that.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from uuid import UUID

from ringfence_satellite.labels import MAX_LABELS, MAX_VARS, carried, label_of, merged
from ringfence_satellite.service import AssignedSatellite


class ProfileError(ValueError):
    """A satellite cannot be described so; the message says why."""


@dataclass(frozen=True, slots=True)
class Profile:
    """A satellite's name, region, tags, labels with a value, and vars.

    `labels` and `vars` are None where they are not told: by an event of an earlier release.
    """

    name: str
    region: str
    tags: tuple[str, ...]
    labels: Mapping[str, str] | None
    vars: Mapping[str, str] | None

    @property
    def carried(self) -> frozenset[str]:
        """What rules and checks that are narrowed to tags find: the tags, and `name=value` for each label with one."""
        return carried(self.tags, self.labels or {})

    @property
    def effective(self) -> frozenset[str]:
        """The same without tags that contradict a label or an earlier tag, which selectors do not find."""
        labels = self.all_labels
        return frozenset(
            text for text in self.carried if (label := label_of(text)) is None or labels[label[0]] == label[1]
        )

    @property
    def all_labels(self) -> Mapping[str, str]:
        """What selectors find: every label by its name, those without a value too."""
        return merged(self.tags, self.labels or {})

    def of(self, id: UUID) -> AssignedSatellite:
        """The satellite with this id, so described."""
        return AssignedSatellite(
            id,
            self.carried,
            name=self.name,
            region=self.region or None,
            labels=self.all_labels,
            vars=self.vars or {},
        )

    def over(self, before: Profile | None) -> Profile:
        """This one, with what was known before where it does not tell."""
        if before is None:
            return self
        return dataclasses.replace(
            self,
            labels=before.labels if self.labels is None else self.labels,
            vars=before.vars if self.vars is None else self.vars,
        )

    def with_tags(self, tags: Sequence[str]) -> Profile:
        """With these tags in place of those that it has; a label of the same name as one of them goes."""
        taken = {label[0] for label in map(label_of, tags) if label is not None}
        kept = {key: value for key, value in (self.labels or {}).items() if key not in taken}
        return self._relabelled(tags, kept)

    def with_labels(self, changes: Mapping[str, str | None]) -> Profile:
        """With these labels beside those that it has; None takes one off."""
        tags = [tag for tag in self.tags if (label := label_of(tag)) is None or label[0] not in changes]
        tags += [key for key, value in changes.items() if value == ""]
        labels = {key: value for key, value in (self.labels or {}).items() if key not in changes}
        labels |= {key: value for key, value in changes.items() if value}
        return self._relabelled(tags, labels)

    def with_vars(self, changes: Mapping[str, str | None]) -> Profile:
        """With these vars beside those that it has; None takes one off."""
        vars = {**(self.vars or {}), **changes}
        kept = {name: value for name, value in vars.items() if value is not None}
        if len(kept) > MAX_VARS:
            raise ProfileError(f"a satellite has at most {MAX_VARS} vars")
        return dataclasses.replace(self, vars=kept)

    def _relabelled(self, tags: Sequence[str], labels: Mapping[str, str]) -> Profile:
        after = dataclasses.replace(self, tags=tuple(dict.fromkeys(tags)), labels=labels)
        # One that has more, since an earlier release has written tags beside its labels, may be changed for all that.
        if len(after.carried) > max(MAX_LABELS, len(self.carried)):
            raise ProfileError(f"a satellite has at most {MAX_LABELS} labels, tags included")
        return after
