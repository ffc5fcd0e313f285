"""Sends one message by one address, in a process of its own.

Threat: the library behind an address hangs, or logs the address with its password; a hundred services' code is in it.
Mechanism: a process does it, and is ended when its time is over. It gets the address by its standard input, so nobody
sees it among the arguments, and of the environment only what leads it through a proxy; what it writes is read by
nobody but for one answer, out of which the address and its parts are taken; and no address has it open files of the
host, or start programs (`confining`). Not covered: what such a service does with
the message; and that an address can name any machine that the host can reach, so whoever may add a channel may have
the host connect there.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from uuid import UUID

from ringfence.process.groups import end_group

from ringfence_notifications.channels.address import AddressError, kind_of, without
from ringfence_notifications.delivery.plain_words import in_plain_words, not_an_address
from ringfence_notifications.severity import Severity

SEND_SECONDS = 40.0
MAX_ANSWER = 64 * 1024
MAX_ERROR = 400
PROGRAM = "ringfence_notifications.delivery.sending_main"
PASSED = (
    *(
        "HTTP_PROXY",
        "HTTPS_PROXY",
        "ALL_PROXY",
        "NO_PROXY",
        "http_proxy",
        "https_proxy",
        "all_proxy",
        "no_proxy",
    ),
    *("SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "TZ"),
)
"""What the process is given of the environment."""


class DeliveryError(RuntimeError):
    """A message was not taken; the message says why, without the address."""


@dataclass(frozen=True, slots=True)
class Outgoing:
    """What is sent. `kind` is what the library is told of it: info, success, warning or failure."""

    id: UUID
    title: str
    text: str
    kind: str


def kind_of_message(severity: Severity, *, is_good_news: bool) -> str:
    """What sort of message it is, in the library's words: services colour it by that."""
    if is_good_news:
        return "success"
    if severity is Severity.INFO:
        return "info"
    return "warning" if severity is Severity.WARNING else "failure"


async def send(address: str, message: Outgoing, *, seconds: float = SEND_SECONDS) -> None:
    """Have a message sent; returns once the service has taken it. Raises `DeliveryError`."""
    order = {"id": str(message.id), "title": message.title, "text": message.text, "kind": message.kind}
    await _done(address, order, seconds)


async def check(address: str, *, seconds: float = SEND_SECONDS) -> None:
    """Look whether an address is one, without sending anything. Raises `DeliveryError`."""
    await _done(address, {}, seconds)


async def _done(address: str, order: Mapping[str, str], seconds: float) -> None:
    try:
        # Also of one that is a secret as a whole, which nobody could look at before.
        kind = kind_of(address)
    except AddressError as error:
        raise DeliveryError(str(error)) from None
    answer = await _answer(json.dumps({"address": address, "seconds": seconds, **order}).encode(), seconds)
    if isinstance(forms := answer.get("forms"), list):
        # Made of the kind alone, and of what the library says of every address of that kind.
        raise DeliveryError(not_an_address(kind, [str(form) for form in forms]))
    if (said := answer.get("error")) is not None:
        told = " ".join(without(address, str(said)).split())[:MAX_ERROR]
        raise DeliveryError(
            in_plain_words(told) or f"the service of {kind}:// did not take it, and did not say why"
        )


async def _answer(order: bytes, seconds: float) -> Mapping[str, object]:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-I",
        "-m",
        PROGRAM,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
        env={name: os.environ[name] for name in PASSED if name in os.environ} | {"PATH": os.defpath},
        start_new_session=True,
    )
    try:
        async with asyncio.timeout(seconds):
            output, _ = await process.communicate(order)
    except TimeoutError:
        raise DeliveryError(f"there was no answer within {seconds:g} seconds") from None
    finally:
        await end_group(process)
    try:
        answer = json.loads(output[:MAX_ANSWER])
    except ValueError:
        answer = None
    if not isinstance(answer, dict):
        raise DeliveryError("the process that sends messages ended without an answer")
    return answer
