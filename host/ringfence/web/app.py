"""The ASGI application of one instance: the host's own routes, and those of every plugin that is ready."""

from __future__ import annotations

import functools
import importlib.metadata
from collections.abc import Awaitable, Callable, Iterable
from urllib.parse import urlsplit

from fastapi import Depends, FastAPI, Request

from ringfence.access import Access, Audit, Sessions, SignIn
from ringfence.acting import ACTING
from ringfence.http import problems
from ringfence.http.browsers import AllowedHosts
from ringfence.http.headers import BrowserHeaders
from ringfence.http.request_ids import RequestIds
from ringfence.http.routes import serve
from ringfence.metrics.scraping import Scraping
from ringfence.pages.asking import Asking
from ringfence.pages.assets import Assets
from ringfence.pages.live import Feed
from ringfence.pages.own import OwnPages
from ringfence.pages.rendering import Templates
from ringfence.pages.serving import Serving
from ringfence.pages.shell import Shell
from ringfence.pages.signing_in import SigningIn
from ringfence.pages.site import Site
from ringfence.pages.streams import Streams
from ringfence.plugins.command_line import Plugged, installed
from ringfence.plugins.lifecycle import LoadedPlugin
from ringfence.plugins.runtime import Runtime
from ringfence.settings import HostSettings
from ringfence.web import (
    declaring_routes,
    event_routes,
    health,
    host_routes,
    job_routes,
    metrics_routes,
    session_routes,
    status_routes,
)
from ringfence.web.body_limit import BodyLimit
from ringfence.web.counted import Counted, Requests
from ringfence.web.faults import Faults
from ringfence.web.json_bodies import JsonBodies
from ringfence.web.methods import CommonMethods
from ringfence.web.slashes import OtherSlash
from ringfence.web.traced import Traced

API = "/api"
WEBSOCKETS = "/api/ws"


def create_app(
    runtime: Runtime,
    plugins: Iterable[LoadedPlugin],
    access: Access,
    audit: Audit | None = None,
    *,
    sessions: Sessions | None = None,
    site: Site | None = None,
    scraping: Scraping | None = None,
    requests: Requests | None = None,
) -> FastAPI:
    """Build the application, with pages if there are `sessions`: those of the plugins in `site`, and the host's.

    What is answered is counted in `requests`; with `scraping`, /metrics is served.

    Routers are served below `/api/<plugin>`, WebSockets below `/api/ws/<plugin>`.
    """
    app = FastAPI(
        title="Ringfence",
        version=importlib.metadata.version("ringfence"),
        docs_url=None,  # That one would come from elsewhere: ours is a page, see `ringfence.pages.api_docs`.
        redoc_url=None,
        openapi_url=f"{API}/openapi.json",
        redirect_slashes=False,
    )
    app.router.default = OtherSlash(app.router, app.router.default)
    plugins = tuple(plugins)
    # Looked for when somebody asks for the plugins.
    commands = functools.cache(lambda: Plugged(installed()))
    streamed = {f"{API}/{one.info.id}{path}" for one in plugins for path in one.registry.web.streamed}
    app.state.drain = runtime.drain
    app.state.sign_in = SignIn(access, audit, sessions=sessions)
    app.state.allowed_hosts = AllowedHosts.parse(_own_names(runtime.settings))
    # The last one added is the outermost.
    app.add_middleware(Faults)
    app.add_middleware(JsonBodies, streamed=streamed)
    app.add_middleware(BodyLimit, streamed=streamed)
    app.add_middleware(Counted, requests=requests or Requests())
    app.add_middleware(CommonMethods, routes=app.router.routes)
    app.add_middleware(BrowserHeaders)
    app.add_middleware(RequestIds)
    app.add_middleware(Traced)
    problems.install(app)
    serve(app, health.build(runtime, plugins))
    if scraping is not None:
        serve(app, metrics_routes.build(scraping))
    serve(app, host_routes.build(plugins, access, runtime, commands), prefix=f"{API}/host", tags=["host"])
    serve(app, event_routes.build(runtime, plugins), prefix=f"{API}/host", tags=["host"])
    if sessions is not None:
        serve(app, session_routes.build(sessions), prefix=f"{API}/host", tags=["host"])
    serve(app, job_routes.build(runtime), prefix=f"{API}/host", tags=["host"])
    serve(app, declaring_routes.build(runtime), prefix=f"{API}/host", tags=["host"])
    # By path, so that the server can take a WebSocket straight to its endpoint (`WebSocketDispatcher`).
    app.state.websockets = {}
    for one in plugins:
        one.registry.web.sealed = True
        if not one.alive:
            continue
        for router in one.registry.web.routers:
            serve(
                app,
                router,
                prefix=f"{API}/{one.info.id}",
                tags=[one.info.id],
                dependencies=[Depends(_named(one.info.id))],
            )
        for path, endpoint in one.registry.web.websockets.items():
            app.add_api_websocket_route(f"{WEBSOCKETS}/{one.info.id}{path}", endpoint)
            app.state.websockets[f"{WEBSOCKETS}/{one.info.id}{path}"] = endpoint
    if sessions is not None:
        site = site or Site()
        asking = Asking(site)
        own = OwnPages(runtime, plugins, access, sessions, asking, commands)
        site.add("host", own.pages(), rules=access.rules)
        serve(app, status_routes.build(runtime, plugins, asking), prefix=f"{API}/host", tags=["host"])
        _add_pages(app, runtime, site, asking, sessions)
    return app


def _own_names(settings: HostSettings) -> str:
    public = urlsplit(settings.public_url or "").hostname or ""
    return f"{settings.allowed_hosts},{settings.host},{public}"


def _add_pages(app: FastAPI, runtime: Runtime, site: Site, asking: Asking, sessions: Sessions) -> None:
    app.state.site = site
    feed, assets = Feed(runtime), Assets()
    shell = Shell(site, Templates(site.packages), assets, feed)
    app.state.streams = Streams(runtime.drain)
    serving = Serving(shell, feed, asking, app.state.streams)
    serving.install(app, assets)
    longest = runtime.settings.session_hours * 3600
    SigningIn(shell, sessions, longest_seconds=longest).install(app, serving)


def _named(plugin: str) -> Callable[[Request], Awaitable[None]]:
    """A dependency that has a request served in the plugin's name."""
    prefix = f"{API}/{plugin}"

    async def named(request: Request) -> None:
        # Each request is a task of its own, so nobody else acts in this name.
        path = f"{prefix}{request.scope['route'].path.removeprefix(prefix)}"
        ACTING.set({"plugin": plugin, "route": f"{request.method} {path}"})

    return named
