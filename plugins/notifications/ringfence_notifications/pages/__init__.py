"""The pages of notifications: what lasts, who is told of what, and what could not be delivered."""

from __future__ import annotations

from ringfence.pages import Action, Command, Page, Pages, Panel

from ringfence_notifications.access_rules import AccessRules
from ringfence_notifications.pages.channels import ChannelPages
from ringfence_notifications.pages.deliveries import DeliveryPages
from ringfence_notifications.pages.incidents import IncidentPages
from ringfence_notifications.pages.overview import OverviewPages
from ringfence_notifications.pages.routes import RoutePages

__all__ = [
    "ChannelPages",
    "DeliveryPages",
    "IncidentPages",
    "OverviewPages",
    "RoutePages",
    "pages_of",
]

INCIDENTS = ("incidents-changed",)
SETTINGS = ("notification-settings-changed",)
MESSAGES = ("notification-sent", "notification-failed")


def pages_of(
    rules: AccessRules,
    overview: OverviewPages,
    incidents: IncidentPages,
    deliveries: DeliveryPages,
    channels: ChannelPages,
    routes: RoutePages,
) -> Pages:
    """All of them."""
    read, manage, ack = rules.read, rules.manage, rules.ack
    base = "/notifications"
    every = (*INCIDENTS, *SETTINGS, *MESSAGES)
    return Pages(
        package="ringfence_notifications.pages",
        pages=[
            Page(
                path=base,
                title="Notifications",
                template="notifications.html",
                show=overview.show,
                rule=read,
                group="Configuration",
                order=64,
                live=every,
            ),
            Page(
                path=f"{base}/incidents",
                title="Incidents",
                template="incidents.html",
                show=incidents.show,
                rule=read,
                live=INCIDENTS,
            ),
            Page(
                path=f"{base}/messages",
                title="Messages",
                template="messages.html",
                show=deliveries.show,
                rule=read,
                live=(*MESSAGES, *INCIDENTS),
            ),
            Page(
                path=f"{base}/channels/{{name}}",
                title="Channel",
                template="channel.html",
                show=channels.show,
                rule=read,
                live=(*SETTINGS, *MESSAGES),
                held=channels.held,
            ),
            Page(
                path=f"{base}/new-route",
                title="New route",
                template="route.html",
                show=routes.new,
                rule=manage,
            ),
            Page(
                path=f"{base}/routes/{{name}}",
                title="Route",
                template="route.html",
                show=routes.show,
                rule=read,
                live=SETTINGS,
                held=routes.held,
            ),
        ],
        panels=[
            Panel(
                name=f"incidents-of-{what}",
                on=f"/{what}s/{{{key}}}",
                title="Incidents",
                template="panel.html",
                show=incidents.panel(f"/{what}s", key),
                rule=read,
                order=20,
                live=INCIDENTS,
            )
            for what, key in (("check", "id"), ("satellite", "id"), ("automation", "name"))
        ],
        actions=[
            Action(
                path=f"{base}/incidents/{{number}}/ack",
                title="Acknowledge",
                do=incidents.acknowledge,
                rule=ack,
            ),
            Action(
                path=f"{base}/messages/retry", title="Send all again", do=deliveries.retry_all, rule=manage
            ),
            Action(
                path=f"{base}/messages/{{id}}/retry", title="Send again", do=deliveries.retry, rule=manage
            ),
            Action(path=f"{base}/channels", title="Add a channel", do=overview.add_channel, rule=manage),
            Action(
                path=f"{base}/channels/{{name}}", title="Change a channel", do=channels.change, rule=manage
            ),
            Action(
                path=f"{base}/channels/{{name}}/address",
                title="Change an address",
                do=channels.set_address,
                rule=manage,
            ),
            Action(path=f"{base}/channels/{{name}}/test", title="Test", do=channels.test, rule=manage),
            Action(
                path=f"{base}/channels/{{name}}/remove",
                title="Remove a channel",
                do=channels.remove,
                rule=manage,
            ),
            Action(path=f"{base}/new-route", title="New route", do=routes.add, rule=manage),
            Action(path=f"{base}/routes/{{name}}", title="Change a route", do=routes.change, rule=manage),
            Action(
                path=f"{base}/routes/{{name}}/remove", title="Remove a route", do=routes.remove, rule=manage
            ),
        ],
        commands=[
            Command(words="Acknowledge an incident", to=f"{base}/incidents?lasting=yes", rule=ack),
            Command(words="Add a channel for notifications", to=f"{base}#add", rule=manage),
            Command(words="Add a route for notifications", to=f"{base}/new-route", rule=manage),
            Command(words="See messages that failed", to=f"{base}/messages?status=failed", rule=read),
            Command(
                words="Send all failed messages again",
                to=f"{base}/messages/retry",
                rule=manage,
                form={},
                ask="All messages that could not be delivered are sent again. Continue?",
            ),
        ],
        attention=overview.attention,
        counts=overview.counts,
        find=overview.find,
    )
