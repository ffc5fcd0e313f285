"""How long it takes to find the checks of a satellite, when many connect: `python -m benchmarks.placing`.

2,300 checks and 2,000 satellites, without a database or a socket. Each check is placed by a tag, by a selector that
asks for a value (one of 200 sites), by one that asks for a name, or by one that excludes a label and asks for a value
which no satellite has; what is looked up is compared with asking every check in turn, which is the baseline.

Usage: python -m benchmarks.placing [--satellites N] [--checks N] [--json]
"""

from __future__ import annotations

import argparse
import datetime as dt
import json
import time
import uuid
from dataclasses import asdict, dataclass

from ringfence_health_checks.definitions.checks import Check
from ringfence_health_checks.definitions.definition import Definition
from ringfence_health_checks.definitions.placed import Placed
from ringfence_health_checks.running.assignments import is_assigned
from ringfence_satellite.service import AssignedSatellite

SITES = 200
NOW = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)


@dataclass(frozen=True, slots=True)
class Figure:
    """One way of placing checks: how many run on a satellite on average, and what it takes to find them."""

    placed_by: str
    checks_per_satellite: float
    read_us_per_check: float
    index_ms: float
    looked_up_us_per_satellite: float
    asked_one_by_one_us_per_satellite: float


def places(way: str, number: int) -> dict[str, object]:
    """Where the check of that number runs."""
    match way:
        case "a tag":
            return {"tags": [f"site=site-{number % SITES}"]}
        case "a value":
            return {"selector": f"env=prod,site=site-{number % SITES},role in (web, api)"}
        case "a name":
            return {
                "selector": f"rack-{number % SITES},env=prod" if number % 10 else f"rack-{number % SITES}"
            }
        case _:
            return {"selector": f"site!=site-{number % SITES},env in (test, stage)"}


def satellite(number: int) -> AssignedSatellite:
    """The satellite of that number."""
    labels = {
        "env": "prod",
        "site": f"site-{number % SITES}",
        "role": ("web", "api", "db")[number % 3],
        f"rack-{number % SITES}": "",
    }
    carried = frozenset(f"{name}={value}" if value else name for name, value in labels.items())
    return AssignedSatellite(uuid.UUID(int=number), carried, name=f"s{number}", labels=labels)


def measure(way: str, satellites: int, checks: int) -> Figure:
    """Place all checks in this way, and look for those of every satellite."""
    wires = [
        {"name": f"check-{n}", "system": "x", "kind": "shell", "script": "true", "runsOn": places(way, n)}
        for n in range(checks)
    ]
    began = time.perf_counter()
    definitions = [Definition.model_validate(wire) for wire in wires]
    read = time.perf_counter() - began
    found = [Check(uuid.uuid4(), definition, NOW, "b", NOW, "b") for definition in definitions]
    fleet = [satellite(number) for number in range(satellites)]
    began = time.perf_counter()
    placed = Placed(found)
    index = time.perf_counter() - began
    began = time.perf_counter()
    counts = [len(placed.on(one)) for one in fleet]
    looked_up = time.perf_counter() - began
    some = fleet[:: max(1, satellites // 50)]
    began = time.perf_counter()
    asked = [sum(is_assigned(check, one) for check in found) for one in some]
    one_by_one = time.perf_counter() - began
    assert asked == counts[:: max(1, satellites // 50)]
    return Figure(
        way,
        round(sum(counts) / satellites, 1),
        round(read / checks * 1e6, 1),
        round(index * 1000, 1),
        round(looked_up / satellites * 1e6, 1),
        round(one_by_one / len(some) * 1e6, 1),
    )


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.placing", description="Measure placing.")
    parser.add_argument("--satellites", type=int, default=2000)
    parser.add_argument("--checks", type=int, default=2300)
    parser.add_argument("--json", action="store_true", help="print the figures as JSON")
    wanted = parser.parse_args()
    figures = [
        measure(way, wanted.satellites, wanted.checks)
        for way in ("a tag", "a value", "a name", "an exclusion and a value")
    ]
    if wanted.json:
        print(json.dumps([asdict(one) for one in figures]))
        return
    print(f"{'placed by':<28}{'found':>8}{'read':>14}{'index':>12}{'looked up':>14}{'one by one':>14}")
    for one in figures:
        print(
            f"{one.placed_by:<28}{one.checks_per_satellite:>8}{one.read_us_per_check:>11} us{one.index_ms:>9} ms"
            f"{one.looked_up_us_per_satellite:>11} us{one.asked_one_by_one_us_per_satellite:>11} us"
        )


if __name__ == "__main__":
    main()
