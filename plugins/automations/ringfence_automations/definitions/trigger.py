"""What starts an automation, as it is written."""

from __future__ import annotations

import enum
from typing import Annotated, Any, Self

from pydantic import Field, StrictBool, model_validator
from ringfence.bounded import ShortText
from ringfence.scripts import Cron

from ringfence_automations.definitions.hook_names import NamedHook
from ringfence_automations.definitions.parts import ExpressionText, Part
from ringfence_automations.definitions.spans import Span

UTC = "UTC"
MIN_EVERY_SECONDS = 1.0


class TriggerKind(enum.StrEnum):
    """What kind of thing starts a run."""

    HOOK = "hook"
    EVERY = "every"
    CRON = "cron"
    WEBHOOK = "webhook"
    MANUAL = "manual"


class Hmac(Part):
    """How a webhook is signed: the secret that holds the key, and the header that has the signature."""

    secret: ShortText
    header: ShortText = "X-Hub-Signature-256"


class Webhook(Part):
    """An address of its own that starts the automation."""

    hmac: Hmac | None = None


class Trigger(Part):
    """One thing that starts the automation. A filter says which of its events do."""

    hook: NamedHook | None = None
    every: Span | None = None
    cron: ShortText | None = None
    webhook: Webhook | None = None
    manual: StrictBool | None = None
    filter: ExpressionText | None = None
    zone: ShortText | None = None

    @model_validator(mode="before")
    @classmethod
    def _with_plain_webhook(cls, given: Any) -> Any:
        """`webhook: true`, or nothing after `webhook:`, is one without options."""
        if isinstance(given, dict) and "webhook" in given and given["webhook"] in (None, True):
            return {**given, "webhook": {}}
        return given

    @model_validator(mode="after")
    def _is_one_thing(self) -> Self:
        given = [kind.value for kind in TriggerKind if getattr(self, kind.value) not in (None, False)]
        if len(given) != 1:
            found = f"has {' and '.join(given)}" if given else "has none of them"
            raise ValueError(f"must have exactly one of hook, every, cron, webhook and manual; it {found}")
        if self.filter is not None and self.kind not in (TriggerKind.HOOK, TriggerKind.WEBHOOK):
            raise ValueError("can have a filter only with a hook or a webhook")
        if self.zone is not None and self.cron is None:
            raise ValueError("can have a zone only with cron")
        if self.every is not None and self.every < MIN_EVERY_SECONDS:
            raise ValueError("every must be at least 1s")
        _ = self.times
        return self

    @property
    def kind(self) -> TriggerKind:
        """Which of the kinds it is."""
        return next(kind for kind in TriggerKind if getattr(self, kind.value) not in (None, False))

    @property
    def times(self) -> Cron | None:
        """When a timetable starts it, for `cron`."""
        return None if self.cron is None else Cron(self.cron, self.zone or UTC)


MAX_TRIGGERS = 20
Triggers = Annotated[tuple[Trigger, ...], Field(max_length=MAX_TRIGGERS)]
