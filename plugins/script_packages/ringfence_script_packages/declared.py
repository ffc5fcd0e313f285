"""The policy and the allowlists of sets as documents declare them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, ClassVar

from pydantic import ConfigDict, Field, StrictBool
from ringfence import WireModel
from ringfence.bounded import STORABLE
from ringfence.declaring import ObjectKind, Stored, Work, checked
from ringfence.documents.reading import Document, Finding, NotReadableError
from ringfence.sandbox.policy import DEFAULT_POLICY, PolicyError, SandboxPolicy, overlay
from ringfence.scripts.packages.lock import Ecosystem
from ringfence.web import Problem

from ringfence_script_packages import policy_store
from ringfence_script_packages.packages import allowlist
from ringfence_script_packages.packages.allowlist import Allowlist, entries_of
from ringfence_script_packages.packages.requirements import RequirementError, Wanted, allowable
from ringfence_script_packages.packages.sets import NoSetError, Sets, own_set_name
from ringfence_script_packages.policy_store import NewerPolicyError, SandboxPolicies
from ringfence_script_packages.previewing import without_effect

POLICY = policy_store.NAME
"""The name of the one policy."""
MOST_SETS = 1000
MOST_PACKAGES = 1000


class PolicyKind(ObjectKind[SandboxPolicy]):
    """The one policy. What a document does not say is as in the shipped default."""

    kind: ClassVar[str] = policy_store.KIND
    what: ClassVar[str] = (
        f"The sandbox policy, by the name {POLICY}; what is not said is as in the shipped default"
    )
    spec = SandboxPolicy
    order: ClassVar[int] = 10
    durations: ClassVar = (("resources", "cpuSeconds"),)

    def check(self, name: str, spec: Document) -> Mapping[str, Any]:
        """See `ObjectKind`."""
        if name != POLICY:
            what = f"there is one policy, by the name {POLICY}"
            raise NotReadableError([Finding(*spec.place(()), "metadata.name", what)])
        if not isinstance(spec.value, dict):
            raise NotReadableError([Finding(*spec.place(()), "spec", "this must be a map")])
        try:
            overlay(DEFAULT_POLICY, spec.value)
        except PolicyError as error:
            raise NotReadableError(_located(problem, spec) for problem in error.problems) from None
        return dict(spec.value)

    async def names(self, work: Work) -> Sequence[str]:
        """See `ObjectKind`."""
        return [POLICY]

    async def read(self, work: Work, name: str) -> Stored | None:
        """See `ObjectKind`."""
        state = await self._policies(work).current()
        return Stored(dict(state.wire)) if name == POLICY else None

    async def write(
        self, work: Work, name: str, labels: Mapping[str, str], spec: Any, before: Stored | None
    ) -> Sequence[str]:
        """See `ObjectKind`."""
        try:
            written = await self._policies(work).replace(
                spec, actor=work.by.name, reason=work.reason, expected=None
            )
        except NewerPolicyError as error:
            raise Problem(409, detail=str(error)) from error
        return without_effect(written.state.received.policy)

    async def delete(self, work: Work, name: str, before: Stored) -> None:
        """Go back to the shipped default."""
        await self._policies(work).replace({}, actor=work.by.name, reason=work.reason, expected=None)

    def _policies(self, work: Work) -> SandboxPolicies:
        return SandboxPolicies(work.joined(self.context))


Packages = Annotated[
    tuple[Annotated[str, Field(max_length=500), STORABLE], ...], Field(max_length=MOST_PACKAGES)
]


class PackagesSpec(WireModel):
    """What scripts may import from a set: as `requests>=2`, and of npm as `zod@^3`.

    With `install`, the set is installed anew when that changes.
    """

    model_config = ConfigDict(extra="forbid")

    pypi: Packages = ()
    npm: Packages = ()
    install: StrictBool = True


class PackagesKind(ObjectKind[PackagesSpec]):
    """What is allowed in a set of packages."""

    kind: ClassVar[str] = allowlist.KIND
    what: ClassVar[str] = "A set of packages that scripts may import"
    spec = PackagesSpec
    order: ClassVar[int] = 20

    def check(self, name: str, spec: Document) -> tuple[list[Wanted], bool]:
        """See `ObjectKind`."""
        found = checked(PackagesSpec, spec)
        wrong: list[Finding] = []
        wanted: list[Wanted] = []
        try:
            own_set_name(name)
        except ValueError as error:
            wrong.append(Finding(*spec.place(()), "metadata.name", f"the name {error}"))
        for ecosystem, texts in ((Ecosystem.PYPI, found.pypi), (Ecosystem.NPM, found.npm)):
            try:
                wanted += allowable(ecosystem, texts)
            except RequirementError as error:
                wrong.append(Finding(*spec.place((ecosystem.value,)), f"spec.{ecosystem.value}", str(error)))
        if wrong:
            raise NotReadableError(wrong)
        return wanted, found.install

    async def names(self, work: Work) -> Sequence[str]:
        """See `ObjectKind`."""
        found = await Sets(work.joined(self.context)).page(limit=MOST_SETS, own=True)
        return [one.name for one in found]

    async def read(self, work: Work, name: str) -> Stored | None:
        """See `ObjectKind`."""
        try:
            found = await Sets(work.joined(self.context)).get(name)
        except NoSetError:
            return None
        if found.own_requirements is not None:
            return None
        entries = [one.wanted for one in await entries_of(work.session, name)]
        texts = {
            one.value: [wanted.text for wanted in entries if wanted.ecosystem is one] for one in Ecosystem
        }
        return Stored({key: value for key, value in texts.items() if value})

    async def write(
        self, work: Work, name: str, labels: Mapping[str, str], spec: Any, before: Stored | None
    ) -> Sequence[str]:
        """See `ObjectKind`."""
        context, by = work.joined(self.context), work.by.name
        allowed = Allowlist(context)
        wanted, install = spec
        held = {
            (one.wanted.ecosystem, one.wanted.name): one.wanted
            for one in await entries_of(work.session, name)
        }
        after = {(one.ecosystem, one.name): one for one in wanted}
        new = [one for key, one in after.items() if held.get(key) != one]
        gone = [key for key in held if key not in after]
        if new or before is None:
            await allowed.allow(name, new, reason=work.reason, by=by)
        for ecosystem, package in gone:
            await allowed.remove(name, ecosystem, package, reason=work.reason, by=by)
        if install and (new or gone):
            await Sets(context).request(name, upgrade=False, by=by, reason=work.reason)
        return []

    async def delete(self, work: Work, name: str, before: Stored) -> None:
        """See `ObjectKind`."""
        await Sets(work.joined(self.context)).delete(name, by=work.by.name, reason=work.reason)


def _located(problem: str, spec: Document) -> Finding:
    """A problem of a policy, which begins with its dotted path, with its place."""
    path, colon, message = problem.partition(": ")
    parts = tuple(int(part) if part.isdigit() else part for part in path.split(".")) if colon else ()
    is_known = bool(parts) and " " not in path
    return Finding(
        *spec.place(parts if is_known else ()),
        f"spec.{path}" if is_known else "spec",
        message if is_known else problem,
    )
