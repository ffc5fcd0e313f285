"""A real core, told anything that looks like a frame, in any order.

It goes on, says why it hangs up, and tells nobody what is another's.
"""

from __future__ import annotations

import asyncio
import contextlib
import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from ringfence_satellite.protocol import CloseCode, Heartbeat
from websockets.exceptions import ConnectionClosed

from tests.satellite.instances import Instance, Peer, Registered
from tests.satellite.test_protocol import anything_like_a_frame
from tests.waiting import in_time

EXAMPLES = 150
MARK = "only-the-other-may-see-this"
OTHER, RUN = "id-of-the-other", "run-of-the-other"
POINTED = [
    {"type": "run_result", "runId": RUN, "exitCode": 0, "stdout": "forged", "sandbox": {}},
    {
        "type": "result",
        "configId": "c",
        "systemId": "s",
        "status": "healthy",
        "executedAt": "now",
        "resultId": "r",
    },
    {"type": "request_run_secrets", "requestId": "q", "configId": OTHER},
    {"type": "strategy_error", "strategyId": OTHER, "message": "m"},
    {"type": "sandbox_policy_applied", "revision": 0, "enforced": {}},
    {"type": "sandbox_policy_applied", "revision": 2**62},
    {"type": "heartbeat", "uptimeSeconds": 1, "capabilities": {"a": {"b": []}}},
    {"type": "authenticate", "clientId": OTHER, "token": "guess", "sandboxPolicyHeld": "none"},
    {
        "type": "authenticate",
        "clientId": OTHER,
        "token": "",
        "sandboxPolicyHeld": {"revision": 9, "digest": "d"},
    },
]
frames = st.one_of(anything_like_a_frame, st.sampled_from([json.dumps(one) for one in POINTED]))


def conversations() -> list[list[str]]:
    """What is said, one conversation after the other. Made beforehand, since the core is real and asynchronous."""
    made: list[list[str]] = []

    @settings(max_examples=EXAMPLES, database=None, suppress_health_check=list(HealthCheck))
    @given(st.lists(frames, min_size=1, max_size=8))
    def make(texts: list[str]) -> None:
        made.append(texts)

    make()
    return made


@pytest.mark.slow
@pytest.mark.parametrize("authenticated", [True, False])
async def test_whatever_is_said_the_core_goes_on_and_tells_nobody_what_is_anothers(
    instance: Instance, authenticated: bool
) -> None:
    rogue, honest = await instance.register("rogue"), await instance.register("honest")
    async with instance.connected(honest) as other:
        asking = asyncio.create_task(instance.run(honest, script=f"echo {MARK}", timeoutMs=120_000))
        asked = await other.hear("run_script")
        for texts in conversations():
            pointed = [text.replace(OTHER, honest.id).replace(RUN, asked["runId"]) for text in texts]
            await one_conversation(instance, rogue if authenticated else None, pointed, honest)
            await other.say(Heartbeat())
        shown = await instance.show(honest)
        assert (shown["appliedRevision"], shown["status"]) == (None, "online")
        revision = await instance.set_policy({"network": {"mode": "deny"}})
        assert (await other.hear("sandbox_policy"))["revision"] == revision
        await other.say(
            json.dumps(
                {
                    "type": "run_result",
                    "runId": asked["runId"],
                    "exitCode": 0,
                    "stdout": "true",
                    "sandbox": {},
                }
            )
        )
        assert (await asking)["result"]["stdout"] == "true"


async def one_conversation(
    instance: Instance, who: Registered | None, texts: list[str], other: Registered
) -> None:
    async with instance.peer(who) as peer:
        heard, code = await say_all(peer, texts)
    assert MARK not in heard
    assert other.id not in heard
    if who is None:
        assert code == CloseCode.AUTH_FAILED
        assert "authenticated" not in heard
    else:
        assert code in {None, CloseCode.UNREADABLE, CloseCode.TOO_LARGE}, f"{code} after {texts}"


async def say_all(peer: Peer, texts: list[str]) -> tuple[str, int | None]:
    """What the core says to all this, and how it hangs up, if it does: a ping comes back after all of it was read."""
    heard: list[str] = []
    try:
        for text in texts:
            await peer.say(text)
        # Answered after what was said before it: every secret that is asked for is answered, this one last.
        await peer.say(
            json.dumps({"type": "request_run_secrets", "requestId": "the-last", "configId": "none"})
        )
        async with in_time("the last answer"):
            while '"the-last"' not in (heard or [""])[-1]:
                heard.append(str(await peer.socket.recv()))
    except ConnectionClosed:
        with contextlib.suppress(ConnectionClosed):
            while True:
                heard.append(str(await peer.socket.recv()))
        return "".join(heard), peer.socket.close_code
    return "".join(heard), None
