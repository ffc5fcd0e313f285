"""Whom an automation acts for, and whether they may do what it says.

Threat: somebody who may write automations has one do what they may not do themselves: with the token of another, with
secrets, on satellites. Mechanism: an automation acts for a token, by its id, and that is the writer's own unless they
hold all that the named one holds; the rules that running a script by hand needs are looked at when it is written, of
whom it acts for, and again by each step when it runs. A token that has ended leaves its automations without rules,
and a new one of the same name does not inherit them. Not covered: scripts on the host itself, which need no rule but
that of writing automations, as those of checks do.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from uuid import UUID

from ringfence import PluginContext, TokenHolder
from ringfence.documents.reading import Finding, Path
from ringfence.sandbox import beyond, current_policy
from ringfence.web import Principal
from ringfence_notifications.service import Notifications, UnknownChannelError
from ringfence_satellite.service import AssignedSatellite, Satellites
from ringfence_secrets.service import USE as USE_SECRETS
from ringfence_secrets.service import MissingSecretsError, SecretError, Secrets

from ringfence_automations.bodies.marked import BRACES, secret_names
from ringfence_automations.bodies.notify import Notify
from ringfence_automations.bodies.scripts import EachSelected, OneSatellite
from ringfence_automations.definitions.reading.accepting import Accepted
from ringfence_automations.definitions.reading.checking import CheckedStep, walk

RUN_ON_SATELLITES = "satellite.script.run"
"""The access rule with which somebody may run scripts on a satellite."""
MOST_LINES = 10


class NotActingError(RuntimeError):
    """Whom an automation acts for holds no rules any more."""

    def __init__(self, name: str, acts_for: str) -> None:
        super().__init__(
            f"the API token {acts_for}, for which {name} acts, has been revoked or has expired: apply the automation "
            "again, with a token that holds"
        )


class NotAllowedError(RuntimeError):
    """A definition does what whoever writes it, or whom it acts for, may not do."""

    def __init__(self, findings: Iterable[Finding]) -> None:
        self.findings = tuple(sorted(findings))
        super().__init__("\n".join(map(str, self.findings)))


@dataclass(frozen=True, slots=True)
class Permitted:
    """Whom a definition acts for; what is wrong with it as things are now, and what may be (`warnings`)."""

    holder: TokenHolder
    wrong: list[Finding]
    warnings: list[Finding]


class Permissions:
    """Looks at definitions as things are now: tokens, secrets, satellites and the policy."""

    def __init__(self, context: PluginContext) -> None:
        self._context = context

    async def permitted(self, accepted: Accepted, by: Principal) -> Permitted:
        """Whom the definition acts for if `by` writes it. Raises `NotAllowedError`."""
        holder = await self._holder(accepted, by)
        looked = _Looked(accepted, holder.principal)
        secrets = looked.secrets()
        self._hooks(looked)
        await self._satellites(looked)
        if looked.refused:
            raise NotAllowedError(looked.refused)
        await self._secrets(looked, secrets)
        await self._policy(looked)
        await self._channels(looked)
        return Permitted(holder, looked.wrong, looked.warnings)

    async def _holder(self, accepted: Accepted, by: Principal) -> TokenHolder:
        named = accepted.definition.run_as
        holder = await self._context.access.named(named or by.name)
        at: Path = ("runAs",) if named else ()
        if holder is None:
            raise NotAllowedError([accepted.finding(at, f"there is no live API token {named or by.name}")])
        if holder.principal.name != by.name and (lacking := by.lacks_of(holder.principal)):
            what = f"{by.name} does not hold all that {named} holds: {', '.join(lacking)}"
            raise NotAllowedError([accepted.finding(at, what)])
        return holder

    def _hooks(self, looked: _Looked) -> None:
        """Refuse what whom it acts for may not see of the events that start it, or for which it waits."""
        for path, name in looked.hooks():
            hook = self._context.hooks.find(name)
            rule = None if hook is None else hook.payload_rule
            if rule is not None and not looked.principal.holds(rule):
                looked.refuse(path, f"{_lacks(looked.principal, rule)}, which shows events of {name}")

    async def _secrets(self, looked: _Looked, secrets: dict[str, Path]) -> None:
        try:
            await self._context.services.get(Secrets).get(secrets)
        except MissingSecretsError as error:
            for name in error.names:
                looked.say(
                    secrets[name], f"there is no secret {name}: set it with ringfence secret set {name}"
                )
        except SecretError as error:
            looked.warn((), f"its secrets cannot be had at the moment: {error}")

    async def _satellites(self, looked: _Looked) -> None:
        by_name: dict[str, AssignedSatellite] | None = None
        for action in looked.scripts():
            place = getattr(action.body, "on", None)
            path: Path = (*action.path, action.step.kind, "on")
            if not isinstance(place, OneSatellite) or BRACES in place.satellite:
                continue
            if by_name is None:
                found = await self._context.services.get(Satellites).find()
                by_name = {key: one for one in found for key in (one.name, str(one.id))}
            satellite = by_name.get(_as_id(place.satellite))
            if satellite is None:
                looked.warn(path, f"there is no satellite {place.satellite} now")
            elif not looked.principal.holds_on(RUN_ON_SATELLITES, satellite.tags):
                looked.refuse(path, f"{_lacks(looked.principal, RUN_ON_SATELLITES)} on {place.satellite}")

    async def _channels(self, looked: _Looked) -> None:
        named = [(one, one.body.channel) for one in looked.actions if isinstance(one.body, Notify)]
        notifications = self._context.services.find(Notifications)
        if not named or notifications is None:
            return
        known = await notifications.channels()
        for action, channel in named:
            if channel not in known:
                path: Path = (*action.path, action.step.kind, "channel")
                looked.warn(path, f"{UnknownChannelError(channel)}; the step fails until then")

    async def _policy(self, looked: _Looked) -> None:
        policy = (await current_policy()).policy
        for action in looked.scripts():
            needs = getattr(action.body, "needs", None)
            if needs is None:
                continue
            lines = [str(line) for line in beyond(policy, needs)]
            if lines:
                more = f"; and {len(lines) - MOST_LINES} more" if lines[MOST_LINES:] else ""
                looked.warn(
                    (*action.path, action.step.kind, "needs"),
                    f"the policy lacks {'; '.join(lines[:MOST_LINES])}{more}: the step fails until it allows that",
                )


class _Looked:
    """What has been found of one definition so far."""

    def __init__(self, accepted: Accepted, principal: Principal) -> None:
        self._accepted = accepted
        self.principal = principal
        self.refused: list[Finding] = []
        self.wrong: list[Finding] = []
        self.warnings: list[Finding] = []

    def refuse(self, path: Path, message: str) -> None:
        self.refused.append(self._accepted.finding(path, message))

    def say(self, path: Path, message: str) -> None:
        self.wrong.append(self._accepted.finding(path, message))

    def warn(self, path: Path, message: str) -> None:
        self.warnings.append(self._accepted.finding(path, message, is_warning=True))

    def scripts(self) -> Sequence[CheckedStep]:
        """The actions that run a script, and say where or what that needs."""
        return [one for one in self._accepted.actions if hasattr(one.body, "on")]

    @property
    def actions(self) -> Sequence[CheckedStep]:
        """All steps that another than the engine carries out."""
        return self._accepted.actions

    def hooks(self) -> list[tuple[Path, str]]:
        """The hooks that start it, and those for which its steps wait, each with where it says so."""
        definition = self._accepted.definition
        found: list[tuple[Path, str]] = [
            (("triggers", number, "hook"), one.hook)
            for number, one in enumerate(definition.triggers)
            if one.hook is not None
        ]
        for path, step in walk(("steps",), definition.steps):
            if step.wait is not None and step.wait.event is not None:
                found.append(((*path, "wait", "event", "hook"), step.wait.event.hook))
        return found

    def secrets(self) -> dict[str, Path]:
        """The secrets that are named, each with where that is first; refuses what whom it acts for may not have."""
        named: dict[str, Path] = {}
        for number, trigger in enumerate(self._accepted.definition.triggers):
            if trigger.webhook is not None and trigger.webhook.hmac is not None:
                named.setdefault(
                    trigger.webhook.hmac.secret, ("triggers", number, "webhook", "hmac", "secret")
                )
        for action in self._accepted.actions:
            path: Path = (*action.path, action.step.kind)
            names = secret_names(action.body)
            for name in names:
                named.setdefault(name, (*path, "secrets"))
            self._check_place(action, path, names)
        if named and not self.principal.holds(USE_SECRETS):
            for path in dict.fromkeys(named.values()):
                self.refuse(path, f"{_lacks(self.principal, USE_SECRETS)}, and so cannot be given secrets")
        return named

    def _check_place(self, action: CheckedStep, path: Path, secrets: Collection[str]) -> None:
        place = getattr(action.body, "on", None)
        if not isinstance(place, OneSatellite | EachSelected):
            return
        if not self.principal.holds_somewhere(RUN_ON_SATELLITES):
            self.refuse((*path, "on"), _lacks(self.principal, RUN_ON_SATELLITES))
        if secrets and isinstance(place, EachSelected) and not place.selector.needs_label:
            # As for checks: a satellite without labels is made by whoever may manage satellites.
            self.say(
                (*path, "on", "selector"),
                f"the selector {place.selector} also means satellites without any label, and the step has secrets: "
                "require a label too, such as: env=prod",
            )


def _lacks(principal: Principal, rule: str) -> str:
    return f"{principal.name} does not hold the access rule {rule}"


def _as_id(name: str) -> str:
    try:
        return str(UUID(name))
    except ValueError:
        return name
