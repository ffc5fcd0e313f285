"""Which policy governs a satellite: each rule that makes it safe is a test that fails without its rule."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ringfence.sandbox import DEFAULT_POLICY as DEFAULT
from ringfence.sandbox import (
    FAIL_CLOSED_POLICY,
    NetworkMode,
    OnUnavailable,
    PolicySource,
    SandboxPolicy,
    overlay,
)
from ringfence.scripts import ScriptKind
from ringfence_satellite.agent.connecting.conversation import (
    Acknowledge,
    Conversation,
    Learn,
    Leave,
    StartRun,
    Welcome,
)
from ringfence_satellite.agent.policy_state import AppliedPolicy
from ringfence_satellite.agent.scheduled.assignments import Assign, HeldAssignments
from ringfence_satellite.protocol import (
    Authenticated,
    AuthFailed,
    CloseCode,
    HeldPolicy,
    RunScript,
    SandboxPolicyPushed,
    Shutdown,
)
from ringfence_satellite.protocol.digest import digest

from tests.satellite.test_protocol import anything_like_a_frame

LOOSE = overlay(DEFAULT, {"network": {"mode": "unrestricted"}})
STRICT = overlay(DEFAULT, {"network": {"mode": "deny"}})
RUN = RunScript(run_id="r", kind=ScriptKind.SHELL, script="true")


@pytest.fixture
def policy() -> AppliedPolicy:
    return AppliedPolicy()


@pytest.fixture
def conversation(policy: AppliedPolicy) -> Conversation:
    return Conversation(policy, HeldAssignments())


def welcome(policy: object = None, revision: int | None = None) -> str:
    return Authenticated(satellite_id="s", sandbox_policy=policy, sandbox_policy_revision=revision).encode()


def push(policy: object, revision: int) -> str:
    return SandboxPolicyPushed(policy=policy, revision=revision).encode()


def is_closed(policy: AppliedPolicy) -> bool:
    snapshot = policy.state.snapshot
    return snapshot.policy == FAIL_CLOSED_POLICY and snapshot.source is PolicySource.FAIL_CLOSED


async def test_before_the_first_policy_it_is_fail_closed_and_says_so(policy: AppliedPolicy) -> None:
    snapshot = await policy.provider()
    assert snapshot.policy == FAIL_CLOSED_POLICY
    assert snapshot.reason is not None


def test_the_first_policy_takes_force_and_is_acknowledged(
    policy: AppliedPolicy, conversation: Conversation
) -> None:
    actions = conversation.received(welcome(LOOSE.to_wire(), 4))
    assert actions == (Welcome("s"), Learn({}), Acknowledge(policy.state.snapshot, 4), Assign(()))
    assert policy.state.snapshot.policy == LOOSE


def test_the_shipped_default_is_a_policy_too(policy: AppliedPolicy, conversation: Conversation) -> None:
    conversation.received(welcome(DEFAULT.to_wire(), 0))
    assert policy.state.snapshot.source is PolicySource.DEFAULT
    assert policy.state.snapshot.revision == 0


@pytest.mark.parametrize("sent", [{}, {"sandboxPolicy": LOOSE.to_wire()}, {"sandboxPolicyRevision": 9}])
def test_a_core_that_leaves_the_policy_out_makes_it_fail_closed(
    policy: AppliedPolicy, conversation: Conversation, sent: dict[str, object]
) -> None:
    conversation.received(welcome(LOOSE.to_wire(), 4))
    conversation.received(json.dumps({"type": "authenticated", "satelliteId": "s", **sent}))
    assert is_closed(policy)


def test_a_revision_is_never_undone_by_an_older_answer(
    policy: AppliedPolicy, conversation: Conversation
) -> None:
    conversation.received(push(STRICT.to_wire(), 5))
    actions = conversation.received(welcome(LOOSE.to_wire(), 4))
    assert policy.state.snapshot.policy == STRICT
    assert actions == (Welcome("s"), Learn({}), Acknowledge(policy.state.snapshot, 5), Assign(()))


def test_the_same_revision_does_not_bring_another_policy(
    policy: AppliedPolicy, conversation: Conversation
) -> None:
    conversation.received(push(STRICT.to_wire(), 5))
    conversation.received(push(LOOSE.to_wire(), 5))
    assert policy.state.snapshot.policy == STRICT


def test_a_later_connection_goes_on_from_the_policy_of_the_former(policy: AppliedPolicy) -> None:
    Conversation(policy, HeldAssignments()).received(welcome(STRICT.to_wire(), 5))
    Conversation(policy, HeldAssignments()).received(welcome(LOOSE.to_wire(), 4))
    assert policy.state.snapshot.policy == STRICT


def test_after_a_missing_policy_the_same_revision_opens_again_but_no_lower_one(policy: AppliedPolicy) -> None:
    conversation = Conversation(policy, HeldAssignments())
    conversation.received(welcome(STRICT.to_wire(), 5))
    conversation.received(welcome())
    assert conversation.received(push(LOOSE.to_wire(), 4)) == ()
    assert is_closed(policy)
    conversation.received(push(STRICT.to_wire(), 5))
    assert policy.state.snapshot.policy == STRICT


def test_a_restriction_that_is_not_understood_is_named_and_never_loosens(
    policy: AppliedPolicy, conversation: Conversation
) -> None:
    newer = {
        **LOOSE.to_wire(),
        "network": {"mode": "per-process"},
        "gpu": {"mode": "none"},
        "onUnavailable": "ask",
    }
    conversation.received(push(newer, 6))
    snapshot = policy.state.snapshot
    assert set(snapshot.not_understood) == {"network.mode", "gpu", "onUnavailable"}
    assert snapshot.policy.network.mode is NetworkMode.DENY
    assert snapshot.policy.on_unavailable is OnUnavailable.FAIL


@pytest.mark.parametrize(
    "text",
    [
        json.dumps({"type": "sandbox_policy", "policy": STRICT.to_wire()}),
        json.dumps({"type": "sandbox_policy", "policy": STRICT.to_wire(), "revision": "seven"}),
        '{"type": "sandbox_policy", "policy": {"network": ',
    ],
)
def test_a_policy_frame_that_cannot_be_read_makes_it_fail_closed(
    policy: AppliedPolicy, conversation: Conversation, text: str
) -> None:
    conversation.received(welcome(LOOSE.to_wire(), 4))
    (leave,) = conversation.received(text)
    assert isinstance(leave, Leave)
    assert leave.code is CloseCode.UNREADABLE
    assert is_closed(policy)


def test_it_acknowledges_nothing_that_is_not_in_force(
    policy: AppliedPolicy, conversation: Conversation
) -> None:
    conversation.received(welcome(STRICT.to_wire(), 5))
    conversation.received(welcome())
    assert conversation.received(push(LOOSE.to_wire(), 3)) == ()


def replacing(policy: object, revision: int, replaces: HeldPolicy | None) -> str:
    return Authenticated(
        satellite_id="s",
        sandbox_policy=policy,
        sandbox_policy_revision=revision,
        sandbox_policy_replaces=replaces,
    ).encode()


def test_a_core_that_has_lost_just_what_is_held_here_is_followed_to_a_lower_revision(
    policy: AppliedPolicy, conversation: Conversation
) -> None:
    conversation.received(push(LOOSE.to_wire(), 9))
    actions = conversation.received(replacing(STRICT.to_wire(), 4, policy.state.held))
    assert policy.state.snapshot.policy == STRICT
    assert Acknowledge(policy.state.snapshot, 4) in actions
    conversation.received(push(LOOSE.to_wire(), 4))
    assert policy.state.snapshot.policy == STRICT, "from there on, only higher ones again"


def test_a_core_that_has_lost_what_is_held_here_may_have_the_same_number_for_another(
    policy: AppliedPolicy, conversation: Conversation
) -> None:
    conversation.received(push(LOOSE.to_wire(), 9))
    conversation.received(replacing(STRICT.to_wire(), 9, policy.state.held))
    assert policy.state.snapshot.policy == STRICT


@pytest.mark.parametrize("held", [(9, LOOSE), (8, STRICT), (4, LOOSE)])
def test_a_core_that_speaks_of_what_is_not_held_here_is_not_followed_down(
    policy: AppliedPolicy, conversation: Conversation, held: tuple[int, SandboxPolicy]
) -> None:
    conversation.received(push(STRICT.to_wire(), 9))
    replaces = HeldPolicy(revision=held[0], digest=digest(held[1].to_wire()))
    conversation.received(replacing(LOOSE.to_wire(), 4, replaces))
    assert policy.state.snapshot.policy == STRICT
    assert policy.state.revision == 9


def test_a_core_that_has_lost_what_is_held_here_and_has_nothing_in_its_place_makes_it_fail_closed(
    policy: AppliedPolicy, conversation: Conversation
) -> None:
    conversation.received(push(LOOSE.to_wire(), 9))
    conversation.received(Authenticated(satellite_id="s", sandbox_policy_replaces=policy.state.held).encode())
    assert is_closed(policy)
    assert policy.state.revision == 9


def test_it_runs_nothing_for_a_core_that_has_not_let_it_in(conversation: Conversation) -> None:
    assert conversation.received(RUN.encode()) == ()
    conversation.received(welcome())
    assert conversation.received(RUN.encode()) == (StartRun(RUN),)


def test_it_leaves_when_it_is_refused_or_when_the_core_goes(conversation: Conversation) -> None:
    refused = conversation.received(AuthFailed(reason="wrong token").encode())
    assert refused == (Leave(CloseCode.BACK_SOON, "wrong token", refused=True),)
    (leave,) = conversation.received(Shutdown(reason="restart").encode())
    assert isinstance(leave, Leave)
    assert not leave.refused


policies = st.sampled_from([LOOSE.to_wire(), STRICT.to_wire(), DEFAULT.to_wire(), {}, None, 7, {"new": 1}])
policy_frames = st.one_of(
    st.builds(push, policies, st.integers(0, 6)),
    st.builds(welcome, policies, st.none() | st.integers(0, 6)),
    st.builds(
        replacing,
        policies,
        st.integers(0, 6),
        # Never what is held: at revision 9 nothing was ever told.
        st.just(HeldPolicy(revision=9, digest=digest(STRICT.to_wire()))),
    ),
    anything_like_a_frame,
)


@given(st.lists(policy_frames, max_size=12))
def test_whatever_is_sent_in_whatever_order_the_revision_never_goes_down(texts: list[str]) -> None:
    policy = AppliedPolicy()
    conversation = Conversation(policy, HeldAssignments())
    highest = -1
    for text in texts:
        for action in conversation.received(text):
            if isinstance(action, Acknowledge):
                assert action.revision >= highest
                highest = action.revision
                assert policy.state.snapshot == action.snapshot
        now = policy.state.snapshot
        assert now.source is PolicySource.FAIL_CLOSED or now.revision == policy.state.revision
        assert is_closed(policy) or policy.state.revision is not None
