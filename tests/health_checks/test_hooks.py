"""What the hooks of health checks tell, as expressions and listeners read it."""

from __future__ import annotations

from ringfence_health_checks.hooks import HealthStateChanged

STORED_BY_AN_EARLIER_RELEASE = """{
    "checkId": "5ba36ae9-5b0b-4ba6-8c1b-9a6d5a1f1d5a", "checkName": "http", "system": "web", "place": "core",
    "placeName": null, "labels": {"env": "prod"}, "from": "healthy", "to": "unhealthy",
    "since": "2026-01-01T00:00:00Z", "message": "refused"
}"""


def test_a_changed_state_has_a_status_also_where_an_earlier_release_has_stored_it() -> None:
    told = HealthStateChanged.model_validate_json(STORED_BY_AN_EARLIER_RELEASE).model_dump(
        mode="json", by_alias=True
    )
    assert (told["status"], told["to"], told["system"]) == ("unhealthy", "unhealthy", "web")
    assert (told["labels"]["env"], told["message"]) == ("prod", "refused")


def test_what_is_stored_now_can_be_read_again() -> None:
    once = HealthStateChanged.model_validate_json(STORED_BY_AN_EARLIER_RELEASE)
    assert HealthStateChanged.model_validate_json(once.model_dump_json(by_alias=True)) == once
