"""The kind `http`: a program of our own performs the request, in the sandbox, and reaches nothing but its target.

Threat: an automation is used to reach what the policy does not allow, or what only the host reaches. Mechanism: the
request is a script like any other, under the policy that holds, and narrowed to the one host and port of its address;
the address is looked up in the sandbox. Secrets are variables of that script. Not covered: what the server does.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Awaitable, Callable
from importlib import resources
from typing import Any
from urllib.parse import urlsplit

from ringfence.sandbox.policy import Needs, NeedsError
from ringfence.scripts import RunResult, ScriptKind, ScriptRequest, masked, run

from ringfence_automations.bodies.http import CAUSE, Http, Target
from ringfence_automations.service import StepCall, StepFailed, StepResult
from ringfence_automations.steps import artifacts
from ringfence_automations.steps.secrets import RunSecrets

MAX_BODY = 64 * 1024
"""How much of an answer's body is kept, in bytes; more is not even read to its end."""
_SAFE = frozenset({"GET", "HEAD", "OPTIONS"})


LeadsHere = Callable[[str], Awaitable[bool]]
"""Whether an automation of this host has a webhook address with this secret."""
_WEBHOOK = re.compile(r"/api/automations/hooks/([A-Za-z0-9_-]{1,200})/?")


class HttpSteps:
    """Implements `StepKind`.

    A request to a webhook of this host says which run it comes from, whatever the address before it: so automations
    that start each other that way are counted. Nobody else is told.
    """

    name = "http"
    model = Http

    def __init__(self, secrets: RunSecrets, leads_here: LeadsHere) -> None:
        self._secrets = secrets
        self._leads_here = leads_here

    def is_repeatable(self, body: Http) -> bool:
        """See `StepKind`: of methods that change nothing (RFC 9110, section 9.2.1)."""
        return _method(body) in _SAFE

    async def perform(self, call: StepCall[Http]) -> StepResult:
        """See `StepKind`."""
        body = call.body
        try:
            target = Target.of(body.url)
            needs = Needs.parse({"network": [target.entry]})
        except (ValueError, NeedsError) as error:
            raise StepFailed(f"no request can be made: {error}") from None
        values = await call.secrets(frozenset(n for text in body.headers.values() for n in text.names))
        headers = {name: text.filled(values) for name, text in body.headers.items()}
        if any("\r" in value or "\n" in value or "\0" in value for value in headers.values()):
            raise StepFailed("a header holds a line break")
        webhook = _WEBHOOK.search(urlsplit(body.url).path)
        if webhook is not None and await self._leads_here(webhook[1]):
            headers = {name: value for name, value in headers.items() if name.lower() != CAUSE.lower()}
            headers[CAUSE] = str(call.run)
        variables = {name: f"HEADER_{number}" for number, name in enumerate(headers)}
        request = ScriptRequest(
            kind=ScriptKind.PYTHON,
            script=_program(),
            name="request.py",
            context={
                "url": body.url,
                "method": _method(body),
                "headers": variables,
                "body": body.body,
                "json": body.json_,
                "hasJson": "json_" in body.model_fields_set,
                "ca": body.tls.ca,
                "verify": body.tls.verify,
                "timeout": call.seconds_left,
                "most": MAX_BODY,
            },
            secret_env={variables[name]: value for name, value in headers.items()} if values else {},
            env={} if values else {variables[name]: value for name, value in headers.items()},
            masked=tuple(values.values()),
            needs=needs,
            timeout_ms=int(call.seconds_left * 1000),
        )
        result = masked(await run(request), await self._secrets.mask(call.run))
        return _result(body, result)

    async def cancel(self, call: StepCall[Http]) -> None:
        """See `StepKind`: it is never elsewhere."""


def _result(body: Http, result: RunResult) -> StepResult:
    ended = artifacts.of_run(result)
    answer: Any = result.value
    if not ended.ok or not isinstance(answer, dict):
        return StepResult(False, {**ended.artifact, "status": None}, ended.message)
    if answer.get("error") is not None:
        return StepResult(False, {"status": None, "error": answer["error"]}, f"no answer: {answer['error']}")
    status = int(answer["status"])
    ok = body.is_expected(status)
    wanted = ", ".join(map(str, body.expect))
    return StepResult(ok, answer, f"answered {status}" + ("" if ok else f", and {wanted} was expected"))


def _method(body: Http) -> str:
    return body.method or ("POST" if body.body is not None or "json_" in body.model_fields_set else "GET")


@functools.cache
def _program() -> str:
    return resources.files("ringfence_automations.steps").joinpath("http_request.py").read_text()
