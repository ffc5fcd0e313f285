"""What a plugin is, and what it declares: to the `Registry`, before anything is up."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

from ringfence.access import AccessRule
from ringfence.hooks import (
    Hook,
)
from ringfence.jobs import Job
from ringfence.storage.configs import ConfigSchema
from ringfence.storage.migrating import MigrationBranch

if TYPE_CHECKING:
    from fastapi import APIRouter
    from pydantic_settings import BaseSettings
    from starlette.websockets import WebSocket

    from ringfence.plugins.services import ServiceDirectory


API_VERSION = 1
"""The version of the plugin API. It changes only when a plugin written against the last one would break."""


RESERVED_IDS = frozenset({"docs", "host", "ws"})
"""The host's own names below `/api`, in access rules and in the database."""


T = TypeVar("T")
S = TypeVar("S", bound="BaseSettings")
_ID = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")


WebSocketEndpoint = Callable[["WebSocket"], Awaitable[None]]


class PluginError(RuntimeError):
    """A plugin cannot be loaded or is used wrongly; the message names the plugin, the phase and the cause."""


@dataclass(frozen=True, slots=True)
class PluginInfo:
    """Who a plugin is. `requires` are the ids of plugins that must be there, and are initialised before it.

    The host stops when a plugin fails, unless that plugin is `optional`: then it is left out, with all that
    requires it, and said to be. `api` is the version of the plugin API that it was written for; it has no
    newer default, so that a plugin which says nothing is taken for one of the first version, and not for
    one of whatever version it meets.
    """

    id: str
    version: str
    requires: tuple[str, ...] = ()
    optional: bool = False
    api: int = 1

    def __post_init__(self) -> None:
        if not _ID.fullmatch(self.id):
            raise PluginError(f"plugin id {self.id!r} must be lower-case words joined by hyphens")
        if self.id in RESERVED_IDS:
            raise PluginError(f"plugin id {self.id!r} is the host's own: choose another")


@dataclass(slots=True)
class PluginWeb:
    """What one plugin serves.

    Filled in `register` or `init`; the application is built when all plugins are ready.
    """

    plugin: str
    routers: list[APIRouter] = field(default_factory=list)
    websockets: dict[str, WebSocketEndpoint] = field(default_factory=dict)
    streamed: set[str] = field(default_factory=set)
    sealed: bool = False

    def router(self, router: APIRouter) -> None:
        """Serve `router` below `/api/<plugin>`."""
        from fastapi import APIRouter

        self._check_open()
        if not isinstance(router, APIRouter):
            raise PluginError(f"{self.plugin} adds {router!r}, which is not a fastapi.APIRouter")
        self.routers.append(router)

    def guarded_router(self, rule: AccessRule) -> APIRouter:
        """A new router below `/api/<plugin>`, each route of which lets in only who holds `rule`, as its `Caller`."""
        from fastapi import Depends

        from ringfence.http.guard import require
        from ringfence.http.routes import Router

        router = Router(dependencies=[Depends(require(rule))])
        self.router(router)
        return router

    def streams(self, path: str) -> None:
        """Leave it to the route at `/api/<plugin><path>` how large a request is: it reads the body piece by piece.

        So is a route that takes more than 64 KiB of those who have neither a token nor a session. It must know who
        sends it before it reads, as a route does that an access rule guards, and take no body of its own accord:
        `request.stream()` of starlette's `Request` is how to read it. `path` may have names in braces, as routes have.
        """
        self._check_open()
        self.streamed.add(path)

    def websocket(self, path: str, endpoint: WebSocketEndpoint) -> None:
        """Serve a WebSocket at `/api/ws/<plugin><path>`; `path` is empty or begins with a slash."""
        self._check_open()
        if path and not path.startswith("/"):
            raise PluginError(f"{self.plugin}: WebSocket path {path!r} must be empty or begin with a slash")
        if path in self.websockets:
            raise PluginError(f"{self.plugin}: WebSocket path {path!r} is declared twice")
        self.websockets[path] = endpoint

    def _check_open(self) -> None:
        if self.sealed:
            raise PluginError(
                f"{self.plugin} adds a route after the application was built: do it in register or init"
            )


def check_routes(web: PluginWeb) -> None:
    """Raise `PluginError` when a plugin declares a route twice: only the first would ever answer."""
    from ringfence.http.routes import methods_and_paths

    declared: set[tuple[str, str]] = set()
    for router in web.routers:
        for method, path in methods_and_paths(router):
            # What a parameter is called makes no other route.
            same = (method, re.sub(r"{[^}:]*", "{", path))
            if same in declared:
                raise PluginError(f"{web.plugin}: the route {method} {path} is declared twice")
            declared.add(same)


@dataclass(slots=True)
class Registry:
    """Where a plugin declares what it has, in `register`. Everything declared is scoped to the plugin."""

    plugin: str
    services: ServiceDirectory
    requires: frozenset[str] = frozenset()
    """The plugins that are there if this one is: those that it requires, and those that these require."""
    hooks: dict[str, Hook[Any]] = field(default_factory=dict)
    rules: dict[str, AccessRule] = field(default_factory=dict)
    configs: dict[str, ConfigSchema[Any]] = field(default_factory=dict)
    jobs: dict[str, Job[Any]] = field(default_factory=dict)
    web: PluginWeb = field(init=False)
    branch: MigrationBranch | None = None
    settings: BaseSettings | None = None

    def __post_init__(self) -> None:
        self.web = PluginWeb(self.plugin)

    def own_settings(self, model: type[S]) -> S:
        """The plugin's own settings, of the model that its `settings` names."""
        if not isinstance(self.settings, model):
            raise PluginError(f"{self.plugin} asks for {model.__name__}, which its settings() does not name")
        return self.settings

    def access_rule(
        self, resource: str, action: str, description: str, *, narrowable: bool = False
    ) -> AccessRule:
        """Declare the rule `<plugin>.<resource>.<action>` and get it, to guard routes with.

        With `narrowable`, a token may hold it for what carries some labels alone: its routes then guard with
        `require(rule, narrowed=True)`, and ask `require_on` with the labels of what each request is about.
        """
        rule = AccessRule(self.plugin, resource, action, description, narrowable)
        self._once(self.rules, rule.name, rule, "access rule")
        return rule

    def hook(self, hook: Hook[Any]) -> None:
        """Declare a hook that this plugin emits. Only declared hooks can be emitted."""
        self._once(self.hooks, hook.name, hook, "hook")

    def config(self, schema: ConfigSchema[Any]) -> None:
        """Declare a config that this plugin keeps."""
        self._once(self.configs, schema.key, schema, "config")

    def job(self, job: Job[Any]) -> None:
        """Declare a kind of job that this plugin enqueues and does."""
        self._once(self.jobs, job.name, job, "job")

    def router(self, router: APIRouter) -> None:
        """Serve `router` below `/api/<plugin>`."""
        self.web.router(router)

    def guarded_router(self, rule: AccessRule) -> APIRouter:
        """A new router below `/api/<plugin>`, each route of which lets in only who holds `rule`, as its `Caller`."""
        return self.web.guarded_router(rule)

    def websocket(self, path: str, endpoint: WebSocketEndpoint) -> None:
        """Serve a WebSocket at `/api/ws/<plugin><path>`; `path` is empty or begins with a slash."""
        self.web.websocket(path, endpoint)

    def migrations(self, package: str) -> None:
        """Name the importable package whose modules are this plugin's alembic revisions.

        They are a branch of their own.

        They run in one transaction, after those of the plugins that this one requires.
        """
        if self.branch is not None:
            raise PluginError(
                f"{self.plugin} has its migrations in {self.branch.package} already; a plugin has one package of them"
            )
        self.branch = MigrationBranch(label=self.plugin, package=package)

    def service(self, interface: type) -> None:
        """Declare that this plugin will provide `interface` in `init`."""
        self.services.declare(interface, plugin=self.plugin)

    def extension_point(self, interface: type) -> None:
        """Declare that others may add implementations of `interface`."""
        self.services.declare_point(interface, plugin=self.plugin)

    def _once(self, declared: dict[str, T], name: str, value: T, kind: str) -> None:
        if name in declared:
            raise PluginError(f"{self.plugin} declares the {kind} {name} twice")
        declared[name] = value
