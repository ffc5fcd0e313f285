"""The built-in routes, with the hooks of the plugins as they are; and routes that cannot be used. Pure."""

from __future__ import annotations

import datetime as dt
from typing import Any

import pytest
from pydantic import ValidationError
from ringfence import AnyEvent, HookDirectory
from ringfence.access.audit import ACCESS_HOOKS
from ringfence.eventlog import HISTORY_HOOKS
from ringfence.plugins.discovery import discover
from ringfence.plugins.registry import Registry
from ringfence.plugins.services import ServiceDirectory
from ringfence_notifications.deciding import Phase
from ringfence_notifications.links import for_people
from ringfence_notifications.routing.built_in import BUILT_IN
from ringfence_notifications.routing.compiled import CompiledRoute, RouteError, compiled
from ringfence_notifications.routing.route import Recovery, Route
from ringfence_notifications.severity import Severity

CHECK, PLACE = "01234567-89ab-cdef-0123-456789abcdef", "76543210-89ab-cdef-0123-456789abcdef"
NOW = dt.datetime(2030, 6, 3, 12, tzinfo=dt.UTC)


@pytest.fixture(scope="module")
def hooks() -> HookDirectory:
    """What the built-in plugins and the host declare."""
    directory = HookDirectory()
    directory.add("host", (*ACCESS_HOOKS, *HISTORY_HOOKS))
    for plugin in discover():
        registry = Registry(plugin.info.id, ServiceDirectory())
        plugin.register(registry)  # type: ignore[attr-defined]
        directory.add(plugin.info.id, registry.hooks.values())
    return directory


@pytest.fixture(scope="module")
def built_in(hooks: HookDirectory) -> dict[str, CompiledRoute]:
    return {route.name: compiled(route, hooks.find) for route in BUILT_IN}


def event(hooks: HookDirectory, hook: str, **payload: Any) -> AnyEvent:
    """An event as the log would give it: with the payload as its model writes it."""
    declared = hooks.find(hook)
    assert declared is not None
    written = declared.model.model_validate(payload).model_dump(mode="json", by_alias=True)
    return AnyEvent(
        payload=written,
        hook=hook,
        plugin=declared.plugin,
        position=1,
        stream=hook,
        version=1,
        actor=None,
        reason=None,
        occurred_at=NOW,
    )


def health(to: str, **more: Any) -> dict[str, Any]:
    return {
        "checkId": CHECK,
        "checkName": "disk",
        "system": "web-1",
        "place": PLACE,
        "placeName": "web-1",
        "labels": {},
        "from": "healthy",
        "to": to,
        "since": NOW,
        "message": "98% used",
        **more,
    }


def test_every_built_in_route_fits_the_hooks_of_the_plugins(built_in: dict[str, CompiledRoute]) -> None:
    assert {name: one.idle for name, one in built_in.items() if one.idle is not None} == {}
    assert {one.hook for route in BUILT_IN for one in route.recoveries} - {
        hook for one in built_in.values() for hook in one.clears
    } == set()


@pytest.mark.parametrize(
    ("to", "more", "severity"),
    [
        ("unhealthy", {}, Severity.ERROR),
        ("degraded", {}, Severity.WARNING),
        ("unknown", {"placeName": None}, Severity.WARNING),
    ],
)
def test_a_failing_check_is_told(
    hooks: HookDirectory,
    built_in: dict[str, CompiledRoute],
    to: str,
    more: dict[str, Any],
    severity: Severity,
) -> None:
    [found] = built_in["failing-checks"].matches(event(hooks, "health-state-changed", **health(to, **more)))
    assert (found.fact.phase, found.fact.severity, found.key) == (Phase.RAISED, severity, (CHECK, PLACE))
    assert found.fact.title == f"disk is {to} on {more.get('placeName', 'web-1') or PLACE}"
    assert found.fact.text == "98% used"


def test_a_silenced_failure_is_not_told_and_a_silenced_recovery_is(
    hooks: HookDirectory, built_in: dict[str, CompiledRoute]
) -> None:
    route = built_in["failing-checks"]
    assert route.matches(event(hooks, "health-state-changed", **health("unhealthy", silenced=True))) == []
    [over] = route.matches(event(hooks, "health-state-changed", **health("healthy", silenced=True)))
    assert (over.fact.phase, over.key) == (Phase.CLEARED, (CHECK, PLACE))


@pytest.mark.parametrize(
    ("name", "hook", "payload", "key"),
    [
        (
            "failing-checks",
            "health-check-changed",
            {"check_id": CHECK, "change": "deleted", "definition": {}},
            (CHECK, None),
        ),
        ("failing-checks", "satellite-deleted", {"satellite_id": PLACE, "name": "web-1"}, (None, PLACE)),
        ("lost-satellites", "satellite-deleted", {"satellite_id": PLACE, "name": "web-1"}, (PLACE,)),
        (
            "lost-satellites",
            "satellite-connected",
            {"satellite_id": PLACE, "connection": CHECK, "instance": CHECK, "version": None},
            (PLACE,),
        ),
        (
            "refused-runs",
            "health-check-stopped",
            {
                "check_id": CHECK,
                "check_name": "disk",
                "place": PLACE,
                "place_name": None,
                "stopped": None,
                "message": "",
            },
            (CHECK, PLACE),
        ),
    ],
)
def test_what_ends_an_incident(
    hooks: HookDirectory,
    built_in: dict[str, CompiledRoute],
    name: str,
    hook: str,
    payload: dict[str, Any],
    key: tuple[str | None, ...],
) -> None:
    [found] = built_in[name].matches(event(hooks, hook, **payload))
    assert (found.fact.phase, found.key) == (Phase.CLEARED, key)


@pytest.mark.parametrize(
    ("name", "hook", "payload", "title", "severity"),
    [
        (
            "lost-satellites",
            "satellite-heartbeat-lost",
            {"satellite_id": PLACE, "name": "web-1", "offline_after_seconds": 30.0},
            "The satellite web-1 is lost",
            Severity.ERROR,
        ),
        (
            "stopped-satellite-escapes",
            "satellite-run-finished",
            {"satellite_id": PLACE, "run_id": CHECK, "outcome": "finished", "exit_code": -31},
            f"A run on satellite {PLACE} made a forbidden system call, and was ended",
            Severity.CRITICAL,
        ),
        (
            "refused-satellite-runs",
            "satellite-run-finished",
            {
                "satellite_id": PLACE,
                "run_id": CHECK,
                "outcome": "finished",
                "exit_code": -1,
                "stopped": "refused",
            },
            f"The sandbox of satellite {PLACE} refused a run",
            Severity.WARNING,
        ),
        (
            "set-back-databases",
            "event-log-set-back",
            {"read_up_to": 9, "resumed_after": 3, "instance": CHECK},
            "The database was set back to an older state",
            Severity.CRITICAL,
        ),
        (
            "tampered-histories",
            "event-log-tampered",
            {"stream": "access", "version": 3, "what": "is missing"},
            "The history access was tampered with",
            Severity.CRITICAL,
        ),
    ],
)
def test_what_else_is_told(
    hooks: HookDirectory,
    built_in: dict[str, CompiledRoute],
    name: str,
    hook: str,
    payload: dict[str, Any],
    title: str,
    severity: Severity,
) -> None:
    [found] = built_in[name].matches(event(hooks, hook, **payload))
    assert (found.fact.title, found.fact.severity) == (title, severity)


@pytest.mark.parametrize(
    ("changed", "why"),
    [
        ({"filter": "event.nam == 'a'"}, "filter: "),
        ({"filter": "event.name"}, "filter: "),
        ({"title": "{{ event.nothing }}"}, "title: "),
        ({"severity": "terrible"}, "severity: must be one of info, warning, error, critical"),
        ({"recoveries": (Recovery(hook="satellite-deleted", filter="1"),)}, "recovery 1: filter: "),
    ],
)
def test_a_wrong_expression_is_refused_when_it_is_written(
    hooks: HookDirectory, changed: dict[str, Any], why: str
) -> None:
    route = Route(name="new", hook="satellite-registered", title="{{ event.name }} is new")
    with pytest.raises(RouteError, match=why):
        compiled(route.model_copy(update=changed), hooks.find)


def test_keys_that_do_not_fit_each_other_are_refused() -> None:
    with pytest.raises(ValidationError, match="as many parts"):
        Route(name="a", hook="b", title="c", key=("x",), recoveries=(Recovery(hook="d", key=("x", "y")),))
    with pytest.raises(ValidationError, match="stands in the key of a recovery alone"):
        Route(name="a", hook="b", title="c", key=("*",))


def test_a_key_fits_into_an_index_however_long_what_an_event_says_is(hooks: HookDirectory) -> None:
    route = Route(name="a", hook="health-state-changed", title="b", key=("{{ event.message }}",) * 4)
    made = compiled(route, hooks.find)
    long = "".join(map(chr, range(0x10000, 0x10000 + 2000)))
    keys = set()
    for message in ("short", long, long + "!"):
        told = event(hooks, "health-state-changed", **{**health("unhealthy"), "message": message})
        [found] = made.matches(told)
        keys.add(found.key)
        assert sum(len(part.encode()) for part in found.key if part is not None) <= 2000
    assert len(keys) == 3
    assert ("short",) * 4 in keys


def test_a_route_whose_hook_nobody_declares_is_idle(hooks: HookDirectory) -> None:
    route = compiled(Route(name="a", hook="never-heard", title="b"), hooks.find)
    assert route.idle == "no plugin declares the hook never-heard"


@pytest.mark.parametrize(
    ("base", "link", "shown"),
    [
        (
            "https://core.example.org",
            "/checks/{{ event.checkId }}",
            f"https://core.example.org/checks/{CHECK}",
        ),
        (None, "/checks/{{ event.checkId }}", None),
        ("https://core.example.org", "https://a.example/1", "https://a.example/1"),
        ("https://core.example.org", "javascript:alert(1)", None),
        ("https://core.example.org", "//evil.test/", None),
        ("https://core.example.org", "/a b", None),
    ],
)
def test_a_link_is_an_address_or_the_path_of_one_of_our_pages(
    hooks: HookDirectory, base: str | None, link: str, shown: str | None
) -> None:
    made = compiled(Route(name="a", hook="health-state-changed", title="b", link=link), hooks.find)
    [found] = made.matches(event(hooks, "health-state-changed", **health("unhealthy")))
    assert for_people(found.fact.link, base) == shown
