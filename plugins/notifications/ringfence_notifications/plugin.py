"""The notifications plugin: what happens is told to people."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Sequence

from ringfence import Event, Nothing, PluginContext, PluginInfo, Registry, hookimpl
from ringfence.declaring import ObjectKind
from ringfence.metrics import Metric
from ringfence.pages import Pages
from ringfence_secrets.service import SecretUser

from ringfence_notifications import jobs, pages
from ringfence_notifications.access_rules import AccessRules
from ringfence_notifications.administration.channels import ChannelAdministration
from ringfence_notifications.administration.declared import ChannelKind, RouteKind
from ringfence_notifications.administration.routes import RouteAdministration
from ringfence_notifications.api import channels as channel_routes
from ringfence_notifications.api import incidents as incident_routes
from ringfence_notifications.api import routes as route_routes
from ringfence_notifications.channels.channels import Channels
from ringfence_notifications.delivery.delivering import Delivering
from ringfence_notifications.delivery.messages import Messages
from ringfence_notifications.hooks import (
    NotificationSettingsChanged,
    Subject,
    incidents_changed,
    notification_failed,
    notification_sent,
    notification_settings_changed,
)
from ringfence_notifications.incidents.direct import Direct
from ringfence_notifications.incidents.incidents import Incidents
from ringfence_notifications.incidents.making import Making
from ringfence_notifications.incidents.taking import Taking
from ringfence_notifications.metrics import of_notifications
from ringfence_notifications.routing.routes import Routes
from ringfence_notifications.service import Notifications, RouteSource
from ringfence_notifications.settings import NotificationsSettings
from ringfence_notifications.upkeep import Upkeep


class NotificationsPlugin:
    """Wires the rooms to the host and to each other."""

    info = PluginInfo(
        id="notifications",
        version=importlib.metadata.version("ringfence"),
        requires=("secrets",),
        optional=True,
    )

    _context: PluginContext
    _rules: AccessRules
    _channels: Channels
    _routes: Routes
    _incidents: Incidents
    _messages: Messages
    _channel_administration: ChannelAdministration
    _route_administration: RouteAdministration
    _taking: Taking
    _delivering: Delivering

    @hookimpl
    def settings(self) -> type[NotificationsSettings]:
        """What an operator can set of notifications."""
        return NotificationsSettings

    @hookimpl
    def register(self, registry: Registry) -> None:
        """Declare the rules, the hooks, the jobs, the tables, the service and the extension point."""
        self._rules = AccessRules.declared(registry)
        registry.hook(notification_settings_changed)
        registry.hook(notification_failed)
        registry.hook(notification_sent)
        registry.hook(incidents_changed)
        registry.job(jobs.compose_job)
        registry.job(jobs.deliver_job)
        registry.job(jobs.upkeep_job)
        registry.migrations("ringfence_migrations.notifications")
        registry.service(Notifications)
        registry.extension_point(RouteSource)

    @hookimpl
    async def init(self, context: PluginContext) -> None:
        """Build the rooms, and offer the service to other plugins."""
        self._context = context
        self._channels = Channels(context)
        self._routes = Routes(context)
        self._taking = Taking(context, self._channels, self._routes)
        self._delivering = Delivering(context, self._channels)
        self._incidents, self._messages = Incidents(context), Messages(context)
        self._channel_administration = ChannelAdministration(context, self._channels)
        self._route_administration = RouteAdministration(
            context, self._routes, self._channels, self._incidents
        )
        context.services.extend(SecretUser, self._channels)
        read, manage = self._rules.read, self._rules.manage
        context.services.extend(ObjectKind, ChannelKind(context, read_rule=read, write_rule=manage))
        context.services.extend(ObjectKind, RouteKind(context, read_rule=read, write_rule=manage))
        context.services.provide(Notifications, Direct(self._channels, self._taking))
        context.web.router(channel_routes.build(self._channels, self._channel_administration, self._rules))
        context.web.router(route_routes.build(self._routes, self._route_administration, self._rules))
        context.web.router(incident_routes.build(context, self._incidents, self._messages, self._rules))

    @hookimpl
    async def after_plugins_ready(self, context: PluginContext) -> None:
        """Follow what happens, and take part in telling of it."""
        context.on_hook(notification_settings_changed, self._settings_changed)
        context.on_events(self._taking.on_event, worker_group="routes", wanted=self._taking.is_wanted)
        context.on_job(jobs.compose_job, Making(context, self._routes).on_job)
        context.on_job(jobs.deliver_job, self._delivering.on_job)
        upkeep = Upkeep(context, keep_days=context.own_settings(NotificationsSettings).retention_days)
        context.on_job(jobs.upkeep_job, upkeep.on_job)
        context.every("5m", jobs.upkeep_job, Nothing(), name="upkeep")

    @hookimpl
    async def metrics(self) -> Sequence[Metric]:
        """What lasts, and what was sent."""
        return await of_notifications(self._channels, self._incidents, self._messages, self._delivering)

    @hookimpl
    def pages(self) -> Pages:
        """What people see of notifications."""
        incidents, messages, rules = self._incidents, self._messages, self._rules
        channels, routes = self._channel_administration, self._route_administration
        return pages.pages_of(
            rules,
            pages.OverviewPages(incidents, messages, self._channels, channels, self._routes, rules),
            pages.IncidentPages(incidents, rules),
            pages.DeliveryPages(self._context, messages, rules),
            pages.ChannelPages(channels, self._routes, rules),
            pages.RoutePages(self._context, routes, self._channels, rules),
        )

    async def _settings_changed(self, event: Event[NotificationSettingsChanged]) -> None:
        if event.payload.subject is Subject.CHANNEL:
            self._channels.forget_copy()
        else:
            self._routes.forget_copy()
