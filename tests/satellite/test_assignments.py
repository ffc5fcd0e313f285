"""What a satellite is assigned, and differences of it: all without a socket."""

from __future__ import annotations

import json
import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ringfence.scripts import ScriptKind
from ringfence.web.websocket import TextMessage
from ringfence_satellite.agent.connecting.conversation import Action, AskForAssignments, Conversation
from ringfence_satellite.agent.policy_state import AppliedPolicy
from ringfence_satellite.agent.scheduled.assignments import Assign, HeldAssignments
from ringfence_satellite.protocol import (
    Assignment,
    AssignmentsChanged,
    Authenticated,
    ConfigUpdated,
    parse_from_host,
)
from ringfence_satellite.protocol.assignments import NOTHING, Assigned, Item, MismatchError, apply, difference
from ringfence_satellite.server.connections.assignment_messages import AssignmentMessages
from ringfence_satellite.server.connections.outbox import Outbox

scalars = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=20)
contexts = st.recursive(
    scalars | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=8,
)


def assignment(id: str, script: str = "true", **fields: Any) -> Assignment:
    values = {"kind": ScriptKind.SHELL, "system_id": "web", "interval_seconds": 60, **fields}
    return Assignment(config_id=id, script=script, **values)


assignments = st.builds(
    assignment,
    id=st.sampled_from("abcdefgh"),
    script=texts,
    context=contexts,
    interval_seconds=st.floats(0.1, 1000) | st.integers(1, 1000),
    needs_secrets=st.booleans(),
)
wholes = st.builds(lambda found: Assigned.of([one.item for one in found]), st.lists(assignments, max_size=10))


def over_the_wire(before: Assigned, after: Assigned) -> AssignmentsChanged:
    frame = parse_from_host(AssignmentsChanged.of(difference(before, after)).encode())
    assert isinstance(frame, AssignmentsChanged)
    return frame


@given(wholes, wholes)
def test_a_difference_makes_the_one_of_the_other_also_when_it_has_crossed_the_wire(
    before: Assigned, after: Assigned
) -> None:
    whole = parse_from_host(ConfigUpdated.of(before).encode())
    assert isinstance(whole, ConfigUpdated)
    held = Assigned.read(whole.assignments)
    assert held == before
    result = apply(held, over_the_wire(before, after).difference())
    assert result == after
    assert {id: item.wire for id, item in result.items.items()} == {
        id: item.wire for id, item in after.items.items()
    }


@given(wholes, wholes)
def test_a_difference_holds_nothing_that_has_not_changed(before: Assigned, after: Assigned) -> None:
    change = difference(before, after)
    for item in change.upserts:
        assert before.items.get(item.id) != item
    assert set(change.removals) == before.items.keys() - after.items.keys()


@given(wholes, wholes, wholes)
def test_a_difference_is_not_applied_to_anything_else(
    before: Assigned, after: Assigned, other: Assigned
) -> None:
    change = difference(before, after)
    if other == before:
        return
    with pytest.raises(MismatchError):
        apply(other, change)


@given(wholes, wholes, st.data())
def test_a_difference_that_lost_a_part_is_not_taken(before: Assigned, after: Assigned, data: Any) -> None:
    frame = over_the_wire(before, after)
    parts = [("upserts", one) for one in frame.upserts] + [("removals", one) for one in frame.removals]
    if not parts:
        return
    field, lost = data.draw(st.sampled_from(parts))
    left = [one for one in getattr(frame, field) if one is not lost]
    with pytest.raises(MismatchError):
        apply(before, frame.model_copy(update={field: left}).difference())


def test_the_digest_depends_on_what_is_assigned_and_not_on_its_order() -> None:
    one, two = assignment("a").item, assignment("b").item
    assert Assigned.of([one, two]) == Assigned.of([two, one])
    assert Assigned.of([one]) != Assigned.of([two])
    assert Assigned.of([one]) != Assigned.of([assignment("a", "false").item])
    assert Assigned.of([assignment("a", "false").item, one]) == Assigned.of([one]), "the last counts"
    wire = {**one.wire, "ofANewerCore": 1}
    assert Assigned.of([Item.of(wire)]) != Assigned.of([one]), "also on what is not understood"


# What leaves, and when ------------------------------------------------------------------------


def outbox(*, differences: bool = True) -> Outbox:
    telling = AssignmentMessages()
    return Outbox(telling.difference if differences else telling.whole)


def whole(*scripts: str) -> Assigned:
    return Assigned.of([assignment(str(number), script).item for number, script in enumerate(scripts)])


def frames(box: Outbox) -> list[Any]:
    found = []
    while (message := box.peek()) is not None:
        box.sent(message)
        found.append(parse_from_host(message.text))
    return found


WELCOME = TextMessage(Authenticated(satellite_id="s").encode())


def test_of_many_changes_that_wait_one_difference_is_sent() -> None:
    box = outbox()
    box.told(whole("1", "2", "3"))
    for turn, script in enumerate("abc"):
        box.assign(whole("1", script, "3"), turn)
    box.welcome(WELCOME, None)
    _, change = frames(box)
    assert [one["script"] for one in change.upserts] == ["c"]
    box.assign(whole("1", "c"), 9)
    (change,) = frames(box)
    assert (change.upserts, change.removals) == ([], ["2"])


def test_a_change_that_was_undone_before_it_was_sent_is_not_sent() -> None:
    box = outbox()
    box.told(whole("1"))
    box.welcome(WELCOME, None)
    frames(box)
    box.assign(whole("2"), 1)
    box.assign(whole("1"), 2)
    assert frames(box) == []


def test_a_change_that_comes_while_an_earlier_one_is_being_sent_is_not_lost() -> None:
    box = outbox()
    box.told(whole("1"))
    box.welcome(WELCOME, None)
    frames(box)
    box.assign(whole("2"), 1)
    under_way = box.peek()
    assert under_way is not None
    box.assign(whole("3"), 2)
    box.sent(under_way)
    (change,) = frames(box)
    assert (change.base, [one["script"] for one in change.upserts]) == (whole("2").digest, ["3"])


def test_a_satellite_that_asks_while_a_difference_is_being_sent_is_told_all_after_it() -> None:
    box = outbox()
    box.told(whole("1"))
    box.welcome(WELCOME, None)
    frames(box)
    box.assign(whole("2"), 1)
    under_way = box.peek()
    assert under_way is not None
    box.told(None)
    box.sent(under_way)
    assert [type(one) for one in frames(box)] == [ConfigUpdated]


def test_what_was_read_earlier_does_not_undo_what_was_read_later() -> None:
    box = outbox()
    box.assign(whole("new"), 2)
    assert box.assign(whole("old"), 1) == whole("new")
    box.welcome(WELCOME, None)
    assert [one["script"] for one in frames(box)[1].assignments] == ["new"]


def test_who_understands_no_differences_is_told_all_each_time() -> None:
    box = outbox(differences=False)
    box.told(whole("1"))
    box.welcome(WELCOME, None)
    frames(box)
    box.assign(whole("1", "2"), 1)
    (frame,) = frames(box)
    assert isinstance(frame, ConfigUpdated)
    assert len(frame.assignments) == 2


def test_assignments_leave_before_what_was_asked_for_earlier() -> None:
    box = outbox()
    box.welcome(WELCOME, None)
    frames(box)
    box.put(TextMessage('{"type":"later"}'))
    box.assign(whole("1"), 1)
    assert [type(one) for one in frames(box)] == [ConfigUpdated, type(None)]


def test_one_message_is_made_for_all_that_are_told_the_same() -> None:
    telling = AssignmentMessages()
    before, after = whole("1", "2"), whole("1", "3")
    assert telling.difference(before, after) is telling.difference(whole("1", "2"), after)
    assert telling.whole(None, after) is telling.difference(None, after)


@given(st.integers(0, 2**32))
def test_whatever_happens_on_the_way_the_satellite_ends_with_what_it_is_to_do(seed: int) -> None:
    """Changes, lost connections, satellites that ask again, frames that are slow, and changes while one is sent."""
    rng = random.Random(seed)
    held, policy = HeldAssignments(), AppliedPolicy()
    wanted, turn = whole(), 0
    known = {NOTHING.digest: NOTHING}

    def change() -> None:
        nonlocal wanted, turn
        wanted = whole(*rng.choices("abc", k=rng.randint(0, 4)))
        turn += 1
        known[wanted.digest] = wanted
        if rng.random() < 0.2:
            known.pop(rng.choice(list(known)))
        box.assign(wanted, turn)

    def connect() -> tuple[Outbox, Conversation]:
        box = outbox()
        box.assign(wanted, turn)
        box.told(known.get(held.current.digest))
        welcome = Authenticated(satellite_id="s", assignments_digest=wanted.digest)
        box.welcome(TextMessage(welcome.encode()), None)
        return box, Conversation(policy, held)

    def heard(message: TextMessage) -> None:
        for action in talk.received(message.text):
            if isinstance(action, AskForAssignments):
                assert action.held == held.current.digest
                box.told(None)

    box, talk = connect()
    for _ in range(rng.randint(1, 25)):
        match rng.choice(["change", "change", "send", "send slowly", "lose", "forget"]):
            case "change":
                change()
            case "send" if (message := box.peek()) is not None:
                box.sent(message)
                heard(message)
            case "send slowly" if (message := box.peek()) is not None:
                change()
                box.sent(message)
                heard(message)
            case "lose":
                if (message := box.peek()) is not None and rng.random() < 0.5:
                    heard(message)  # It came, though nobody here knows.
                box, talk = connect()
            case "forget":
                held.forget()  # As an agent does that is not let in; what it is told next may not fit.
    for _ in range(10):
        while (message := box.peek()) is not None:
            box.sent(message)
            heard(message)
        if held.current == wanted:
            break
        box, talk = connect()
    assert held.current == wanted


def actions(talk: Conversation, *frames: Any) -> list[Action]:
    return [action for frame in frames for action in talk.received(frame.encode())]


def test_a_satellite_asks_once_until_it_is_told_all() -> None:
    held = HeldAssignments()
    talk = Conversation(AppliedPolicy(), held)
    change = AssignmentsChanged.of(difference(whole("1"), whole("2")))
    actions(talk, Authenticated(satellite_id="s", assignments_digest=whole("1").digest))
    assert actions(talk, change, change) == [AskForAssignments(NOTHING.digest)]
    assert held.current == NOTHING, "nothing of what does not fit was taken"
    (assign,) = actions(talk, ConfigUpdated.of(whole("1")))
    assert isinstance(assign, Assign)
    (assign,) = actions(talk, change)
    assert isinstance(assign, Assign)
    assert [one.script for one in assign.assignments] == ["2"]


def test_what_a_satellite_cannot_carry_out_is_complained_of_once() -> None:
    strange = {**assignment("x").item.wire, "kind": "riddle"}
    held = HeldAssignments()
    talk = Conversation(AppliedPolicy(), held)
    before = Assigned.of([assignment("a").item, Item.of(strange)])
    _, _, assign = actions(talk, Authenticated(satellite_id="s", assignments=[*map(dict, wires(before))]))
    assert isinstance(assign, Assign)
    assert ([one.config_id for one in assign.assignments], [one.strategy_id for one in assign.refused]) == (
        ["a"],
        ["x"],
    )
    after = Assigned.of([*before.items.values(), assignment("b").item])
    (assign,) = actions(talk, AssignmentsChanged.of(difference(before, after)))
    assert isinstance(assign, Assign)
    assert ([one.config_id for one in assign.assignments], assign.refused) == (["a", "b"], ())


def wires(assigned: Assigned) -> list[Any]:
    return [json.loads(json.dumps(dict(item.wire))) for item in assigned.items.values()]
