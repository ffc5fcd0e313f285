"""What comes to a webhook's address: who may start the automation, how often, and with what.

Threat: whoever guesses or replays addresses; a sender that floods the host, or sends more than it can keep; one that
has got hold of the address alone. Mechanism: an address is a secret of 256 bits; peers that ask for others than there
are, and addresses that are used too often, have to wait; bodies are read up to a bound; and where the automation wants
a signature, its key is a secret that the address does not tell. Not covered: a signed request that somebody replays,
unless its sender gives it an `Idempotency-Key`; each instance counts for itself.
"""

from __future__ import annotations

import asyncio
import datetime as dt
import hashlib
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from ringfence import PluginContext
from ringfence.web import Allowances, Problem, read_body
from ringfence_secrets.service import SecretError, Secrets

from ringfence_automations.bodies.http import CAUSE
from ringfence_automations.definitions.trigger import TriggerKind
from ringfence_automations.runs.starting import Skipped, TriggerFact
from ringfence_automations.runs.tables import runs_table
from ringfence_automations.triggers.armed import Armed, ArmedTrigger
from ringfence_automations.triggers.hearing import Hearing
from ringfence_automations.triggers.matching import first_match
from ringfence_automations.triggers.webhooks import addresses, signatures
from ringfence_automations.triggers.webhooks.requests import MAX_BODY_BYTES, NotReadableError, event_of

STRANGERS = (20.0, 0.5)
"""How many addresses that lead nowhere a peer may ask for at once, and then each second."""
CALLS = (60.0, 10.0)
"""How often an address may be used at once, and then each second."""
_NOWHERE = "this address leads nowhere: it was never made, or another has taken its place"


@dataclass(frozen=True, slots=True)
class Received:
    """One request."""

    method: str
    headers: tuple[tuple[str, str], ...]
    query: str
    peer: str

    def header(self, name: str) -> str | None:
        """The first header of this name."""
        return next((value for one, value in self.headers if one.lower() == name.lower()), None)


class Receiving:
    """Receives requests for webhooks."""

    def __init__(self, context: PluginContext, hearing: Hearing) -> None:
        self._context = context
        self._hearing = hearing
        self._strangers = Allowances(*STRANGERS)
        self._calls = Allowances(*CALLS)

    async def leads_here(self, secret: str) -> bool:
        """Whether it is the secret of an address of this host's."""
        async with self._context.sessions() as session:
            return await addresses.find(session, secret) is not None

    async def receive(self, secret: str, received: Received, body: AsyncIterator[bytes]) -> dict[str, Any]:
        """Start what the address stands for; answers the run's id. Raises `Problem`."""
        now = time.monotonic()
        self._strangers.check(received.peer, now)
        async with self._context.sessions.begin() as session:
            name = await addresses.find(session, secret)
        armed = None if name is None else await self._hearing.armed(name)
        triggers = () if armed is None else armed.of_kind(TriggerKind.WEBHOOK)
        if armed is None or not triggers:
            # An automation that is disabled, or has no webhook any more, is nobody's to find out.
            self._strangers.take(received.peer, now)
            raise Problem(404, detail=_NOWHERE)
        self._calls.check(armed.name, now)
        self._calls.take(armed.name, now)
        whole = await read_body(body, most=MAX_BODY_BYTES, declared=received.header("content-length"))
        admitted = await self._signed(armed, triggers, received, whole)
        return await self._start(armed, admitted, received, whole)

    async def _signed(
        self, armed: Armed, triggers: tuple[ArmedTrigger, ...], received: Received, body: bytes
    ) -> list[ArmedTrigger]:
        """Those of the triggers that want no signature, or have it. Raises `Problem` if there is none."""
        admitted = []
        for one in triggers:
            wanted = None if one.trigger.webhook is None else one.trigger.webhook.hmac
            if wanted is None:
                admitted.append(one)
                continue
            try:
                key = (await self._context.services.get(Secrets).get([wanted.secret]))[wanted.secret]
            except SecretError as error:
                self._context.logger.error(
                    "a webhook's signature cannot be checked", automation=armed.name, error=str(error)
                )
                raise Problem(503, detail="the signature cannot be checked at the moment") from error
            if signatures.is_signed(body, received.header(wanted.header), key):
                admitted.append(one)
        if not admitted:
            raise Problem(401, detail="the request is not signed as this webhook wants it")
        return admitted

    async def _start(
        self, armed: Armed, triggers: list[ArmedTrigger], received: Received, body: bytes
    ) -> dict[str, Any]:
        signed_by = [
            one.trigger.webhook.hmac.header
            for one in armed.triggers
            if one.trigger.webhook is not None and one.trigger.webhook.hmac is not None
        ]
        try:
            hidden = [*signed_by, CAUSE]
            event = event_of(received.method, received.headers, received.query, body, also_hidden=hidden)
        except NotReadableError as error:
            raise Problem(400, detail=str(error)) from error
        depth = await self._depth(received.header(CAUSE))
        fact = TriggerFact(kind="webhook", time=dt.datetime.now(dt.UTC), depth=depth)
        values = {"event": event, "trigger": fact.to_json()}
        # Filters are bounded, but there may be many of them.
        match = await asyncio.to_thread(first_match, armed, triggers, values)
        if match is None:
            return {"run": None, "skipped": "no filter of the automation's webhooks holds"}
        once_key = _once_key(received.header("idempotency-key"))
        async with self._context.sessions.begin() as session:
            await addresses.used(session, armed.name)
            run = await self._hearing.start(session, match, fact, event, once_key=once_key, actor="webhook")
        if isinstance(run, Skipped):
            return {"run": None if run.run is None else str(run.run), "skipped": run.why}
        return {"run": str(run)}

    async def _depth(self, cause: str | None) -> int:
        """How many automations have started each other, if a run has sent the request that it says it comes from.

        Whoever names another run than their own gets no more by it than a count that is too high.
        """
        try:
            run = None if cause is None else UUID(cause)
        except ValueError:
            run = None
        if run is None:
            return 0
        async with self._context.sessions() as session:
            depth = await runs_table.depth_of(session, run)
        return 0 if depth is None else depth + 1


def _once_key(given: str | None) -> str | None:
    """What stands for a sender's key, however long that is; None if there is none."""
    if given is None or not given.strip():
        return None
    return f"webhook/{hashlib.sha256(given.encode(errors='surrogateescape')).hexdigest()}"
