"""The kind `notify`: people are told by a channel of this host, if and only if the step is recorded as ended."""

from __future__ import annotations

from ringfence import PluginContext
from ringfence_notifications.service import Notifications, Severity, UnknownChannelError

from ringfence_automations.bodies.notify import Notify
from ringfence_automations.service import StepCall, StepFailed, StepResult
from ringfence_automations.steps.secrets import RunSecrets


class NotifySteps:
    """Implements `StepKind`."""

    name = "notify"
    model = Notify

    def __init__(self, context: PluginContext, secrets: RunSecrets) -> None:
        self._context = context
        self._secrets = secrets

    def is_repeatable(self, body: Notify) -> bool:
        """See `StepKind`: what is to be told is told with the step's end."""
        return True

    async def perform(self, call: StepCall[Notify]) -> StepResult:
        """See `StepKind`."""
        notifications = self._context.services.find(Notifications)
        if notifications is None:
            raise StepFailed("the plugin notifications is not here: nobody can be told")
        body = call.body
        mask = await self._secrets.mask(call.run)
        try:
            await notifications.notify(
                call.session,
                channel=body.channel,
                title=mask.text(body.title or call.automation),
                text=mask.text(body.text),
                severity=Severity(body.severity),
                group=None if body.group is None else mask.text(body.group),
                link=None if body.link is None else mask.text(body.link),
            )
        except (UnknownChannelError, ValueError) as error:
            raise StepFailed(str(error)) from None
        return StepResult(True, {"channel": body.channel}, f"told by {body.channel}")

    async def cancel(self, call: StepCall[Notify]) -> None:
        """See `StepKind`: it is never elsewhere."""
