"""What waits for a satellite, how look-ups are shared, and how tokens are compared: all without a socket."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Mapping, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ringfence.web.websocket import TextMessage
from ringfence_satellite.server import tokens
from ringfence_satellite.server.batched import Batched
from ringfence_satellite.server.connections.outbox import MAX_BYTES, MAX_MESSAGES, Outbox


def message(text: str) -> TextMessage:
    return TextMessage(text)


def drained(outbox: Outbox) -> list[str]:
    texts = []
    while (one := outbox.peek()) is not None:
        outbox.sent(one)
        texts.append(one.text)
    return texts


def test_nothing_leaves_before_the_welcome() -> None:
    outbox = Outbox()
    outbox.policy(message("policy 2"), 2)
    outbox.put(message("run"))
    assert drained(outbox) == []
    outbox.welcome(message("welcome 1"), 1)
    assert drained(outbox) == ["welcome 1", "policy 2", "run"]


def test_a_policy_that_the_welcome_carries_already_is_not_sent_again() -> None:
    outbox = Outbox()
    outbox.policy(message("policy 2"), 2)
    outbox.welcome(message("welcome 2"), 2)
    assert drained(outbox) == ["welcome 2"]


def test_a_welcome_without_a_policy_drops_none_that_waits() -> None:
    outbox = Outbox()
    outbox.policy(message("policy 2"), 2)
    outbox.welcome(message("welcome"), None)
    assert drained(outbox) == ["welcome", "policy 2"]


def test_a_policy_leaves_before_the_runs_that_were_asked_for_earlier() -> None:
    outbox = Outbox()
    outbox.welcome(message("welcome"), None)
    outbox.put(message("run"))
    outbox.policy(message("policy 1"), 1)
    assert drained(outbox) == ["welcome", "policy 1", "run"]


def test_what_waits_is_bounded_in_number_and_size() -> None:
    outbox = Outbox()
    assert all(outbox.put(message("x")) for _ in range(MAX_MESSAGES))
    assert not outbox.put(message("x"))
    outbox = Outbox()
    large = message("x" * (MAX_BYTES // 2 + 1))
    assert outbox.put(large)
    assert not outbox.put(large)
    outbox.welcome(message("welcome"), None)
    drained(outbox)
    assert outbox.put(large), "room comes back when something was sent"


@given(st.lists(st.tuples(st.sampled_from(["policy", "run", "send"]), st.integers(0, 9)), max_size=40))
def test_revisions_leave_in_order_each_at_most_once_and_the_newest_always(
    steps: list[tuple[str, int]],
) -> None:
    outbox = Outbox()
    outbox.welcome(message("policy -1"), None)
    left: list[int] = []
    asked = [-1]

    def send_one() -> None:
        if (one := outbox.peek()) is not None:
            outbox.sent(one)
            if one.text.startswith("policy"):
                left.append(int(one.text.split()[1]))

    for step, revision in steps:
        if step == "policy":
            asked.append(revision)
            outbox.policy(message(f"policy {revision}"), revision)
        elif step == "run":
            outbox.put(message("run"))
        else:
            send_one()
    while outbox.peek() is not None:
        send_one()
    assert left == sorted(set(left))
    assert left[-1] == max(asked)


def test_a_policy_that_comes_while_an_older_one_is_being_written_is_not_lost() -> None:
    outbox = Outbox()
    outbox.welcome(message("welcome"), None)
    drained(outbox)
    first = message("policy 1")
    outbox.policy(first, 1)
    assert outbox.peek() is first
    outbox.policy(message("policy 2"), 2)
    outbox.sent(first)
    assert drained(outbox) == ["policy 2"]


async def test_an_answer_is_never_older_than_its_question() -> None:
    """A look-up that comes while another is under way is answered by the next one, not by that."""
    state = 1
    begun, go_on = asyncio.Event(), asyncio.Event()

    async def load(keys: Sequence[str]) -> Mapping[str, int]:
        found = dict.fromkeys(keys, state)
        begun.set()
        await go_on.wait()
        return found

    lookups: Batched[str, int] = Batched(load)
    early = asyncio.create_task(lookups.get("key"))
    await begun.wait()
    state = 2
    late = asyncio.create_task(lookups.get("key"))
    await asyncio.sleep(0)
    go_on.set()
    assert await early == 1
    assert await late == 2


async def test_look_ups_made_together_are_one_query_and_a_failure_reaches_each() -> None:
    asked: list[list[int]] = []

    async def load(keys: Sequence[int]) -> Mapping[int, str]:
        asked.append(list(keys))
        if 13 in keys:
            raise OSError("unlucky")
        return {key: str(key) for key in keys if key != 7}

    lookups: Batched[int, str] = Batched(load)
    assert await asyncio.gather(*(lookups.get(key) for key in (1, 2, 2, 7))) == ["1", "2", "2", None]
    assert asked == [[1, 2, 7]]
    results = await asyncio.gather(lookups.get(13), lookups.get(1), return_exceptions=True)
    assert all(isinstance(result, OSError) for result in results)
    assert await lookups.get(1) == "1", "a failure is not the end"
    await lookups.close()


def test_a_token_is_256_random_bits_and_kept_as_its_digest() -> None:
    made = {tokens.new_token() for _ in range(100)}
    assert len(made) == 100
    token = made.pop()
    assert len(token) == 43
    assert tokens.digest(token) == hashlib.sha256(token.encode()).digest()
    assert tokens.matches(token, tokens.digest(token))
    assert not tokens.matches(token + "x", tokens.digest(token))


def test_an_unknown_satellite_costs_the_same_comparison(monkeypatch: pytest.MonkeyPatch) -> None:
    compared: list[tuple[bytes, bytes]] = []

    def compare(one: bytes, other: bytes) -> bool:
        compared.append((one, other))
        return True

    monkeypatch.setattr("ringfence_satellite.server.tokens.hmac.compare_digest", compare)
    assert not tokens.matches("token", None), "whatever the comparison says, nobody is nobody"
    assert tokens.matches("token", b"x" * 32)
    assert [len(other) for _, other in compared] == [32, 32]
