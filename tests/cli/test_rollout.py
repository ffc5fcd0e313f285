"""`ringfence policy rollout`: what it shows of a change on its way, and how it waits."""

from __future__ import annotations

from typing import Any

from tests.cli.conftest import Command
from tests.cli.fake_host import Answer, FakeHost, Request

ROLLOUT = "/api/satellite/rollout"


def rollout(applied: int, online: int = 3, **fields: Any) -> dict[str, Any]:
    lagging = [
        {"name": f"s{n}", "region": "eu", "appliedRevision": 6, "lastHeartbeatAt": "now", "downgrades": []}
        for n in range(online - applied)
    ]
    return {
        "revision": 7,
        "online": online,
        "applied": applied,
        "offline": 1,
        "never": 1,
        "percent": 100.0 * applied / online if online else 100.0,
        "complete": applied == online,
        "lagging": lagging,
        "laggingCount": len(lagging),
        "downgraded": [],
        **fields,
    }


def test_it_names_those_that_lag_and_fails(command: Command, host: FakeHost) -> None:
    host.on("GET", ROLLOUT, Answer(200, rollout(1, laggingCount=12)))
    outcome = command("policy", "rollout")
    assert outcome.status == 1
    assert "revision 7: applied by 1 of 3" in outcome.stdout
    assert "2 not connected" in outcome.stdout
    assert "s0" in outcome.stdout
    assert "s1" in outcome.stdout
    assert "10 more" in outcome.stdout


def test_it_says_which_sets_of_packages_are_not_everywhere(command: Command, host: FakeHost) -> None:
    sets = {"default": {"ready": 2, "syncing": 1, "offline": 4}, "web": {"ready": 3, "offline": 1}}
    host.on("GET", ROLLOUT, Answer(200, rollout(3, packages=sets)))
    outcome = command("policy", "rollout")
    assert outcome.status == 0
    assert "The packages of the set default are not yet on 1 of 7 satellites" in outcome.stderr
    assert "web" not in outcome.stderr


def test_it_says_who_is_on_a_revision_that_the_database_does_not_have(
    command: Command, host: FakeHost
) -> None:
    answer = rollout(2, unknownCount=1)
    answer["lagging"][0] |= {"appliedRevision": 12, "appliedUnknown": True}
    host.on("GET", ROLLOUT, Answer(200, answer))
    outcome = command("policy", "rollout")
    assert outcome.status == 1
    assert "12, unknown here" in outcome.stdout
    assert "start the agents of those again" in outcome.stderr


def test_a_complete_one_succeeds_and_says_who_downgraded(command: Command, host: FakeHost) -> None:
    downgraded = [
        {"name": "weak", "region": "eu", "downgrades": [{"layer": "network", "reason": "no nft"}]},
    ]
    host.on("GET", ROLLOUT, Answer(200, rollout(3, downgraded=downgraded)))
    outcome = command("policy", "rollout")
    assert outcome.status == 0
    assert "100 %" in outcome.stdout
    assert "network: no nft" in outcome.stdout


def test_it_says_who_refuses_runs_under_the_policy_and_why(command: Command, host: FakeHost) -> None:
    weak = {"name": "weak", "region": "eu", "downgrades": [{"layer": "network", "reason": "no nft"}]}
    host.on("GET", ROLLOUT, Answer(200, rollout(3, downgraded=[weak], refusingCount=1)))
    shown = command("policy", "rollout").stdout
    assert "1 satellite refuses every run under this revision" in shown
    assert "refuses runs" in shown
    assert "network: no nft" in shown


def test_watching_looks_until_all_have_it(command: Command, host: FakeHost) -> None:
    answers = [rollout(0), rollout(2), rollout(3)]

    def next_answer(_: Request) -> Answer:
        return Answer(200, answers.pop(0) if len(answers) > 1 else answers[0])

    host.on("GET", ROLLOUT, next_answer)
    outcome = command("policy", "rollout", "--watch", "--json")
    assert outcome.status == 0
    assert outcome.json["applied"] == 3
    assert len(host.requests) == 3


def test_a_time_to_watch_without_watching_is_a_usage_mistake(command: Command, host: FakeHost) -> None:
    outcome = command("policy", "rollout", "--timeout", "5")
    assert outcome.status == 2
    assert "--watch" in outcome.stderr
    assert host.requests == []


def test_watching_gives_up_after_its_time(command: Command, host: FakeHost) -> None:
    host.on("GET", ROLLOUT, Answer(200, rollout(0)))
    outcome = command("policy", "rollout", "--watch", "--timeout", "0")
    assert outcome.status == 1
    assert "applied by 0 of 3" in outcome.stdout
