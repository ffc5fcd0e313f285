"""The host's own API: the plugins it runs, and the API tokens of the installation."""

from __future__ import annotations

import contextlib
import datetime as dt
import uuid
from collections.abc import Callable, Iterator, Sequence
from typing import Annotated, Any

import structlog
from fastapi import Depends, Request, Response
from pydantic import BaseModel, ConfigDict, Field, StrictFloat

from ringfence.access import (
    Access,
    AccessError,
    AccessRule,
    ApiToken,
    LastHolderError,
    TokenNameTakenError,
    UnknownTokenError,
)
from ringfence.bounded import Label, LongText, ShortText, moment
from ringfence.http.guard import Principal, peer_of, require
from ringfence.http.paging import DEFAULT_LISTED, After, Limit, cursor, not_a_cursor, page, parts_of
from ringfence.http.problems import Problem
from ringfence.http.routes import Router, methods_and_paths
from ringfence.jobs import Job, Timetable
from ringfence.plugins.command_line import Plugged
from ringfence.plugins.lifecycle import LoadedPlugin
from ringfence.plugins.runtime import Runtime
from ringfence.scripts.schedule.cron import UTC
from ringfence.web.event_routes import EVENT_RULES
from ringfence.web.job_routes import JOB_RULES
from ringfence.web.metrics_routes import READ_METRICS
from ringfence.web.session_routes import MANAGE_SESSIONS

READ_PLUGINS = AccessRule("host", "plugin", "read", "See which plugins are loaded and what they declare")
MANAGE_TOKENS = AccessRule("host", "token", "manage", "Create, list, narrow and revoke API tokens")
READ_ACCESS = AccessRule("host", "access", "read", "See who signed in from where, and who was refused")
DRAIN = AccessRule("host", "instance", "drain", "Have an instance stop in good order")
READ_INSTANCE = AccessRule(
    "host",
    "instance",
    "read",
    "See how an instance is set, without secrets, and what its machine can enforce",
)
HOST_RULES = (
    READ_PLUGINS,
    MANAGE_TOKENS,
    READ_ACCESS,
    DRAIN,
    READ_INSTANCE,
    READ_METRICS,
    MANAGE_SESSIONS,
    *EVENT_RULES,
    *JOB_RULES,
)
_log = structlog.get_logger("ringfence.web")
LONGEST_SECONDS = 10 * 366 * 24 * 3600.0


Rules = Annotated[list[LongText], Field(min_length=1, max_length=200)]
"""Access rules by name, each perhaps narrowed: `satellite.script.run on env=dev`."""


class NewToken(BaseModel):
    """A token to make: what it is for, the access rules that it holds, and for how long it does."""

    model_config = ConfigDict(extra="forbid")

    name: Label
    rules: Rules
    expires_in_seconds: StrictFloat | None = Field(
        default=None, alias="expiresInSeconds", gt=0, le=LONGEST_SECONDS, allow_inf_nan=False
    )


class NarrowedToken(BaseModel):
    """What a token is to hold from now on."""

    model_config = ConfigDict(extra="forbid")

    rules: Rules


def build(
    plugins: Sequence[LoadedPlugin], access: Access, runtime: Runtime, commands: Callable[[], Plugged]
) -> Router:
    """The routes, over one instance's plugins and tokens, and the commands that plugins bring."""
    router = Router()

    @router.post("/drain", status_code=202)
    async def drain(principal: Annotated[Principal, Depends(require(DRAIN))]) -> dict[str, Any]:
        ask_to_stop(runtime, principal)
        return {
            "instance": str(runtime.instance_id),
            "draining": True,
            "deadlineSeconds": runtime.settings.drain_seconds,
        }

    @router.get("/plugins")
    async def list_plugins(_: Annotated[Principal, Depends(require(READ_PLUGINS))]) -> dict[str, Any]:
        return {"plugins": [plugin_document(one, runtime, commands()) for one in plugins]}

    @router.get("/rules")
    async def list_rules(_: Annotated[Principal, Depends(require(MANAGE_TOKENS))]) -> dict[str, Any]:
        rules = sorted(access.rules.values(), key=lambda rule: rule.name)
        return {
            "rules": [
                {"name": rule.name, "description": rule.description, "narrowable": rule.narrowable}
                for rule in rules
            ]
        }

    @router.post("/tokens", status_code=201)
    async def create_token(
        wanted: NewToken, request: Request, principal: Annotated[Principal, Depends(require(MANAGE_TOKENS))]
    ) -> dict[str, Any]:
        with told():
            token, secret = await access.create(
                wanted.name,
                wanted.rules,
                by=principal,
                lasts_seconds=wanted.expires_in_seconds,
                peer=peer_of(request),
            )
        return {"token": secret, **_token(token)}

    @router.get("/tokens")
    async def list_tokens(
        _: Annotated[Principal, Depends(require(MANAGE_TOKENS))],
        after: After = None,
        limit: Limit = DEFAULT_LISTED,
    ) -> dict[str, Any]:
        found = await access.tokens(after=None if after is None else token_key(after), limit=limit + 1)
        listed = page(found, limit, lambda token: cursor(token.created_at.isoformat(), str(token.id)))
        return {"tokens": [_token(token) for token in listed.entries], "next": listed.next}

    @router.patch("/tokens/{id_or_name}")
    async def narrow_token(
        id_or_name: ShortText,
        wanted: NarrowedToken,
        request: Request,
        principal: Annotated[Principal, Depends(require(MANAGE_TOKENS))],
    ) -> dict[str, Any]:
        with told():
            token = await access.narrow(id_or_name, wanted.rules, by=principal, peer=peer_of(request))
        return _token(token)

    @router.delete("/tokens/{id_or_name}", status_code=204)
    async def revoke_token(
        id_or_name: ShortText,
        request: Request,
        principal: Annotated[Principal, Depends(require(MANAGE_TOKENS))],
    ) -> Response:
        with told():
            await access.revoke(id_or_name, by=principal, peer=peer_of(request))
        return Response(status_code=204)

    return router


def ask_to_stop(runtime: Runtime, by: Principal) -> None:
    """Have this instance stop in good order."""
    if not runtime.drain.began:
        _log.warning("asked to stop", by=by.name)
    runtime.drain.ask()


def token_key(after: str) -> tuple[dt.datetime, uuid.UUID]:
    """Where in the list of tokens a page begins. Raises `Problem`."""
    at, id = parts_of(after, 2)
    try:
        return moment(dt.datetime.fromisoformat(at)), uuid.UUID(id)
    except ValueError as error:
        raise not_a_cursor() from error


@contextlib.contextmanager
def told() -> Iterator[None]:
    """Answer what cannot be done with a token."""
    try:
        yield
    except UnknownTokenError as error:
        raise Problem(404, detail=str(error)) from error
    except (TokenNameTakenError, LastHolderError) as error:
        raise Problem(409, detail=str(error)) from error
    except AccessError as error:
        raise Problem(422, detail=str(error)) from error


def plugin_document(one: LoadedPlugin, runtime: Runtime, commands: Plugged) -> dict[str, Any]:
    """All that is told of a plugin."""
    registry, id = one.registry, one.info.id
    services, points = runtime.services.declared_by(id)
    groups = [group for group in runtime.bus.groups().values() if group.plugin == id]
    return {
        "id": one.info.id,
        "version": one.info.version,
        "requires": list(one.info.requires),
        "optional": one.info.optional,
        "phase": one.phase,
        "error": one.error,
        "hooks": sorted(registry.hooks),
        "subscriptions": sorted(f"{it.hook.name} ({it.mode})" for it in runtime.bus.listeners(plugin=id)),
        "workerGroups": sorted(f"{group.name} ({group.what})" for group in groups),
        "jobs": [_kind(job) for job in sorted(registry.jobs.values(), key=lambda job: job.name)],
        "timetables": sorted(_timetable(it) for it in runtime.board.timetables(plugin=id)),
        "services": list(services),
        "extensionPoints": list(points),
        "rules": sorted(registry.rules),
        "settings": [setting.variable for setting in one.settings],
        "routes": _routes(one),
        "commands": list(commands.of(id)),
        "commandsError": commands.broken.get(id),
    }


def _kind(job: Job[Any]) -> str:
    return job.name if job.at_once is None else f"{job.name} (at most {job.at_once} at once)"


def _timetable(one: Timetable) -> str:
    zone = "" if one.zone == UTC else f" {one.zone}"
    return f"{one.name}: {one.schedule}{zone} ({one.job.name})"


def _routes(one: LoadedPlugin) -> list[str]:
    """What the plugin serves, each as method and path."""
    served = [
        f"{method} /api/{one.info.id}{path}"
        for router in one.registry.web.routers
        for method, path in methods_and_paths(router)
    ]
    sockets = [f"WS /api/ws/{one.info.id}{path}" for path in one.registry.web.websockets]
    return sorted(served + sockets, key=lambda text: text.split()[::-1])


def _token(token: ApiToken) -> dict[str, Any]:
    return {
        "id": str(token.id),
        "name": token.name,
        "rules": list(token.rules),
        "createdAt": token.created_at,
        "createdBy": token.created_by,
        "lastUsedAt": token.last_used_at,
        "revokedAt": token.revoked_at,
        "expiresAt": token.expires_at,
    }
