"""Which answers a connection's satellite owes."""

from ringfence_satellite.server.connections.expected_runs import ExpectedRuns


def test_a_run_is_expected_from_its_hand_over_to_its_end() -> None:
    runs = ExpectedRuns()
    assert "one" not in runs
    assert not runs
    runs.handed_over("one")
    assert "one" in runs
    assert runs.awaits_acceptance("one")
    assert runs.accepted("one")
    assert not runs.awaits_acceptance("one"), "it is accepted once"
    assert runs.ended("one")
    assert not runs.ended("one"), "it ends once"
    assert not runs


def test_a_run_that_found_no_room_is_not_expected() -> None:
    runs = ExpectedRuns()
    runs.handed_over("one")
    runs.taken_back("one")
    assert not runs.ended("one")


def test_a_run_that_was_not_handed_over_cannot_be_accepted() -> None:
    runs = ExpectedRuns()
    assert not runs.accepted("other")
    assert "other" not in runs


def test_what_the_agent_has_already_needs_no_acceptance() -> None:
    runs = ExpectedRuns(["kept"])
    runs.adopted("moved")
    assert not runs.awaits_acceptance("kept")
    assert not runs.awaits_acceptance("moved")
    assert runs.has_signed_in_with("kept")
    assert not runs.has_signed_in_with("moved")
    assert runs.ended("kept")
    assert runs.has_signed_in_with("kept"), "that it had it when it signed in stays true"
