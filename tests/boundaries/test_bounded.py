"""The types that whatever comes from outside is taken by."""

from __future__ import annotations

import datetime as dt
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError
from ringfence.bounded import (
    MAX_DEPTH,
    Days,
    Finite,
    Int32,
    Int64,
    Json,
    JsonObject,
    Label,
    Moment,
    PrintedJson,
    ShortText,
    bounded_json,
    cleaned,
)
from ringfence.cli.address import Address
from ringfence.cli.client import HostClient
from ringfence.process.errors import UsageMistake
from ringfence.settings import HostSettings
from ringfence_health_checks.settings import HealthChecksSettings
from ringfence_satellite.agent.settings import AgentSettings, AgentSettingsError


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        (ShortText, "a\0b"),
        (ShortText, "\ud800"),
        (ShortText, "x" * 201),
        (Label, "two\nlines"),
        (Label, "\x9b31m"),
        (Label, " "),
        (Finite, float("inf")),
        (Finite, float("nan")),
        (Finite, 10**400),
        (Finite, True),
        (Finite, "1"),
        (Int32, 2**31),
        (Int32, True),
        (Int32, "1"),
        (Int64, False),
        (Int64, -(2**63) - 1),
        (Days, float("inf")),
        (Days, 1e9),
        (Moment, "0001-01-01T00:00:00+23:59"),
        (Moment, "9999-12-31T23:59:59-23:59"),
        (Moment, "1999-12-31T23:59:59Z"),
        (Moment, "2024-01-01T00:00:00"),
        (Moment, dt.datetime.now(dt.UTC) + dt.timedelta(days=1, hours=1)),
        (Json, {"a": [{"b": float("inf")}]}),
        (Json, {"a\0": 1}),
        (Json, ["\udfff"]),
        (Json, 10**400),
        (Json, {1: 2}),
        (Json, {"a": {1, 2}}),
        (JsonObject, []),
        (PrintedJson, {"a": float("-inf")}),
    ],
)
def test_what_cannot_be_stored_is_refused(kind: Any, value: object) -> None:
    with pytest.raises(ValidationError):
        TypeAdapter(kind).validate_python(value)


@pytest.mark.parametrize(
    ("name", "says"),
    [
        *((f"web{one}1", "turns around") for one in "\u200e\u200f\u202e\u2066\u2069\u061c"),
        *((f"web{one}1", "cannot be seen") for one in "\u200b\u200c\u200d\u2060\u00ad\u3164\u2800\ufe0f"),
        *((f"web{one}1", "told from a space") for one in "\u00a0\u2003\u3000"),
        *((f"w\u00e9b{one}", "cannot be seen") for one in "\u200d\ufeff\U000e0041"),
        ("a\u0645\u200cb", "cannot be seen"),
    ],
)
def test_a_name_has_nothing_that_cannot_be_seen(name: str, says: str) -> None:
    with pytest.raises(ValidationError, match=says):
        TypeAdapter(Label).validate_python(name)


@pytest.mark.parametrize("name", ["web 1", "Zürich", "東京", "می‌خواهم", "क्‍ष", "👩‍🔧", "1️⃣ ☂️", "Łódź"])
def test_a_name_may_be_in_any_script_and_have_pictures(name: str) -> None:
    assert TypeAdapter(Label).validate_python(name) == name


def test_a_name_that_is_typed_in_two_ways_is_one_name() -> None:
    assert TypeAdapter(Label).validate_python("Zu\u0308rich") == "Z\u00fcrich"
    with pytest.raises(ValidationError, match="at most 100"):  # longer in its composed form
        TypeAdapter(Label).validate_python("\ufb2c" * 50)


def test_a_time_is_taken_as_what_it_is_in_utc() -> None:
    taken = TypeAdapter(Moment).validate_python("2024-03-01T01:30:00+05:30")
    assert (taken, taken.tzinfo) == (dt.datetime(2024, 2, 29, 20, tzinfo=dt.UTC), dt.UTC)


def test_json_may_be_nested_so_deep_and_no_deeper() -> None:
    nested: Any = 1
    for _ in range(MAX_DEPTH):
        nested = [nested]
    assert bounded_json(nested) is nested
    with pytest.raises(ValueError, match="nested"):
        bounded_json([nested])


def test_json_may_be_so_large_and_no_larger() -> None:
    assert bounded_json({"a": "é"}, max_bytes=10) == {"a": "é"}
    with pytest.raises(ValueError, match="at most 9 bytes"):
        bounded_json({"a": "é"}, max_bytes=9)


def test_of_what_was_printed_what_cannot_be_stored_is_replaced_and_nothing_else() -> None:
    printed = {"out\0": [r"\u0000 stays", "a\0b", "\ud83d", "😀", {"n": 1.5}], "none": None}
    assert TypeAdapter(PrintedJson).validate_python(printed) == {
        "out\ufffd": [r"\u0000 stays", "a\ufffdb", "\ufffd", "😀", {"n": 1.5}],
        "none": None,
    }


@given(st.text(st.characters(), max_size=50))
def test_what_is_cleaned_is_taken_and_what_is_taken_needs_no_cleaning(text: str) -> None:
    kind: TypeAdapter[str] = TypeAdapter(ShortText)
    assert kind.validate_python(cleaned(text)) == cleaned(text)
    try:
        assert kind.validate_python(text) == cleaned(text)
    except ValidationError:
        assert cleaned(text) != text


@pytest.mark.parametrize("value", ["inf", "nan", "-1", "0", "1e400", "1e9"])
@pytest.mark.parametrize(
    ("settings", "variable"),
    [
        (HostSettings, "RINGFENCE_EVENT_RETENTION_DAYS"),
        (HostSettings, "RINGFENCE_START_SECONDS"),
        (HostSettings, "RINGFENCE_SHUTDOWN_SECONDS"),
        (HealthChecksSettings, "RINGFENCE_HEALTH_CHECKS_RESULT_RETENTION_DAYS"),
    ],
)
def test_a_time_that_no_database_can_count_is_no_setting(
    settings: Any, variable: str, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises(ValidationError):
        settings()


@pytest.mark.parametrize("seconds", [float("inf"), float("nan"), 0.0, -1.0, 1e300])
def test_a_pause_that_never_ends_is_no_setting(seconds: float, tmp_path: Any) -> None:
    with pytest.raises(AgentSettingsError, match="heartbeats"):
        AgentSettings(("ws://127.0.0.1",), "id", tmp_path / "token", heartbeat_seconds=seconds)


@pytest.mark.parametrize("word", ["\udcff", "a\0b"])
@pytest.mark.parametrize("place", ["path", "query", "list"])
def test_an_argument_that_no_request_can_carry_is_a_mistake_and_no_crash(word: str, place: str) -> None:
    """What a shell passes on need not be UTF-8."""
    path = f"/api/host/tokens/{word}" if place == "path" else "/api/host/tokens"
    queries: dict[str, dict[str, Any]] = {"query": {"on": word}, "list": {"tag": [word]}}
    with (
        HostClient(Address("http://127.0.0.1:9", "token")) as host,
        pytest.raises(UsageMistake, match="an argument cannot be used: it must not contain"),
    ):
        host.request("GET", path, params=queries.get(place))
