"""How long every list takes of a large installation, beside `/healthz`: `python -m benchmarks.lists`.

A real host, over a real socket, on a PostgreSQL that holds 2,000 satellites, 2,300 checks (one of them on every
satellite), 820,000 results, 50,000 runs, 300,000 events, and some hundreds of tokens and secrets. All routes take turns
with `/healthz`, which does nothing; medians are shown, and how many times as long as `/healthz` that is. `pages` is a
whole list, page by page.

Usage: python -m benchmarks.lists [--rounds N] [--json] [--results N]
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import gc
import hashlib
import json
import logging
import os
import shutil
import statistics
import sys
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import httpx
import psycopg
import structlog
from ringfence.host import Host
from ringfence.sandbox.capabilities.document import to_wire
from ringfence.sandbox.capabilities.probe import probe
from ringfence.settings import HostSettings
from ringfence.storage.embedded import EmbeddedPostgres
from ringfence.testing import make_reachable_directory
from ringfence.web.server import listen, serving, url_of
from ringfence_health_checks.plugin import HealthChecksPlugin
from ringfence_satellite.plugin import SatellitePlugin
from ringfence_script_packages.plugin import ScriptPackagesPlugin
from ringfence_secrets.plugin import SecretsPlugin

SATELLITES, CHECKS, PLACES = 2000, 2300, 8
SCRIPT_BYTES = 2000
CHECK, SATELLITE = "/api/health-checks/checks", "/api/satellite/satellites"

FILL = """
INSERT INTO satellite_satellites (id, name, region, tags, labels, vars, token_digest, offline_after_seconds,
                                  last_heartbeat_at, version, capabilities, applied_revision, applied_at, enforced)
SELECT md5('s' || n)::uuid, 'satellite-' || lpad(n::text, 5, '0'), 'region-' || n %% 10,
       ARRAY['all', 'group-' || n %% 20],
       jsonb_build_object('env', 'prod', 'site', 'site-' || n %% 200, 'role', (ARRAY['web', 'api', 'db'])[1 + n %% 3]),
       '{"disk_warn": "80", "proxy": "http://proxy.example.org:3128"}',
       sha256(n::text::bytea), 3600, now(), '0.1.0', %(capabilities)s::jsonb, 0, now(),
       '{"network": true, "filesystem": true, "privilege": true, "resources": true, "syscalls": true}'
  FROM generate_series(1, %(satellites)s) AS n;
INSERT INTO health_checks_checks (id, name, definition, created_by, updated_by)
SELECT md5('c' || n)::uuid, 'check-' || lpad(n::text, 5, '0'), jsonb_build_object(
           'name', 'check-' || lpad(n::text, 5, '0'), 'system', 'system-' || n, 'kind', 'shell',
           'script', rpad('echo ' || n || ' #', %(script)s, md5(n::text)), 'intervalSeconds', 3600,
           'timeoutSeconds', 30, 'secrets', '[]'::jsonb, 'enabled', true,
           'runsOn', jsonb_build_object('core', false, 'satellites', '[]'::jsonb, 'tags',
                                        jsonb_build_array(CASE n WHEN 1 THEN 'all' ELSE 'check-' || n END))
                     || CASE n %% 2 WHEN 0 THEN '{}'::jsonb ELSE
                            jsonb_build_object('selector', 'role in (web, api),rack=r' || n %% 200) END),
       'bench', 'bench'
  FROM generate_series(1, %(checks)s) AS n;
CREATE TEMPORARY TABLE places AS
SELECT md5('c' || c)::uuid AS check_id, md5('s' || s)::uuid::text AS ran_on, c, s
  FROM generate_series(1, %(checks)s) AS c,
       LATERAL (SELECT CASE c WHEN 1 THEN i ELSE 1 + (c * 37 + i * 251) %% %(satellites)s END AS s
                  FROM generate_series(1, CASE c WHEN 1 THEN %(satellites)s ELSE %(places)s END) AS i) AS one;
UPDATE satellite_satellites AS satellite SET tags = satellite.tags || its.tags
  FROM (SELECT ran_on, array_agg('check-' || c) AS tags FROM places WHERE c > 1 GROUP BY ran_on) AS its
 WHERE satellite.id = CAST(its.ran_on AS uuid);
INSERT INTO health_checks_results (ran_on, id, check_id, system, status, latency_ms, message, metrics, detail,
                                   executed_at)
SELECT ran_on, md5(c || '-' || s || '-' || n), check_id, 'system-' || c,
       CASE WHEN (c * 7 + s * 13 + n) %% 200 = 0 THEN 'unhealthy' ELSE 'healthy' END, 12.5, 'all is well', '{"n": 1}',
       %(detail)s::jsonb, now() - make_interval(mins => n)
  FROM places, generate_series(1, greatest(1, %(results)s / (SELECT count(*) FROM places)::int)) AS n;
INSERT INTO health_checks_latest (check_id, ran_on, status, latency_ms, message, executed_at, placed_at, grace_seconds,
                                  settling)
SELECT DISTINCT ON (check_id, ran_on) check_id, ran_on, status, latency_ms, message, executed_at, now(), 10830,
       jsonb_build_object('status', status, 'since', now(), 'last', status, 'streak', 0, 'changes', '[]'::jsonb,
                          'flapping', false, 'stale', false, 'held', '[null, null]'::jsonb)
  FROM health_checks_results ORDER BY check_id, ran_on, executed_at DESC;
INSERT INTO satellite_runs (id, satellite_id, state, outcome, kind, timeout_ms, asked_by, asked_at, deliver_until,
                            ended_at, result)
SELECT md5('r' || n)::uuid, md5('s' || 1 + n %% %(satellites)s)::uuid, 'ended', 'finished', 'shell', 5000, 'bench',
       now() - make_interval(secs => n), now(), now(), %(detail)s
  FROM generate_series(1, 50000) AS n;
INSERT INTO events (stream, version, hook, plugin, payload, occurred_at, instance, hash, keep_forever)
SELECT stream, version, 'bench', 'bench', '{"n": 1}', now(), gen_random_uuid(), '', false
  FROM (SELECT 'satellite.' || n %% 2000 AS stream, 1 + n / 2000 AS version FROM generate_series(0, 279999) AS n
        UNION ALL SELECT 'access', n FROM generate_series(100, 20099) AS n) AS one
 ORDER BY version;
INSERT INTO api_tokens (id, name, digest, rules, created_by)
SELECT md5('t' || n)::uuid, 'token-' || n, sha256(n::text::bytea), '{satellite.satellite.read}', 'bench'
  FROM generate_series(1, 500) AS n;
INSERT INTO secrets_secrets (name, key_id, sealed, updated_by)
SELECT 'SECRET_' || n, 'key', 'sealed', 'bench' FROM generate_series(1, 500) AS n;
"""
DETAIL = {
    "exitCode": 0,
    "durationMs": 12.5,
    "stdout": "all is well\n",
    "stderr": "",
    "sandbox": {
        "enforced": {"network": True, "filesystem": True, "privilege": True, "resources": True},
        "downgrades": [],
        "notes": [],
        "mechanisms": {"network": "namespace", "filesystem": "mounts", "privilege": "uid"},
        "origin": {"source": "default", "revision": 0},
    },
}


@dataclass(frozen=True, slots=True)
class Figure:
    """One request (or a whole list, page by page): its median, and as a multiple of that of `/healthz`."""

    what: str
    median_ms: float
    times_healthz: float
    kilobytes: float


@contextlib.asynccontextmanager
async def database() -> AsyncIterator[EmbeddedPostgres]:
    directory = make_reachable_directory()
    server = EmbeddedPostgres(directory / "postgres", options={"fsync": "off", "max_wal_size": "4GB"})
    await server.start()
    try:
        yield server
    finally:
        await server.stop()
        shutil.rmtree(directory, ignore_errors=True)


async def fill(
    url: str, results: int, *, satellites: int = SATELLITES, checks: int = CHECKS
) -> tuple[int, int]:
    """Put all of it into the database; answers how many results there are, and where an event of the audit is."""
    values = {
        "satellites": satellites,
        "checks": checks,
        "places": PLACES,
        "script": SCRIPT_BYTES,
        "results": results,
        "capabilities": json.dumps(to_wire(probe())),
        "detail": json.dumps(DETAIL),
    }
    async with await psycopg.AsyncConnection.connect(
        url.replace("+psycopg", ""), autocommit=True, cursor_factory=psycopg.AsyncClientCursor
    ) as connection:
        await connection.execute(FILL, values)
        await connection.execute("VACUUM ANALYZE")
        found = await connection.execute("""
            SELECT (SELECT count(*) FROM health_checks_results),
                   (SELECT position FROM events WHERE stream = 'access' AND version = 10000)
        """)
        row = await found.fetchone()
    assert row is not None
    return int(row[0]), int(row[1])


def id_of(kind: str, number: int) -> str:
    """The id that the database gives to a check (`c`) or a satellite (`s`)."""
    return str(uuid.UUID(hashlib.md5(f"{kind}{number}".encode()).hexdigest()))


def requests(position: int) -> dict[str, str]:
    """What is asked for, by what it is called. `position` is that of an event in the middle of the log of access."""
    check, everywhere = f"{CHECK}/{id_of('c', 1200)}", f"{CHECK}/{id_of('c', 1)}"
    satellite = id_of("s", 700)
    return {
        "/healthz": "/healthz",
        "checks": CHECK,
        "checks, 500 of them": f"{CHECK}?limit=500",
        "checks, 500 of them, a place each": f"{CHECK}?limit=500&places=1",
        "checks, the last page": f"{CHECK}?after=check-02200",
        "one check": check,
        "one check that is everywhere": everywhere,
        "results of a check": f"{check}/results",
        "…, unhealthy ones": f"{check}/results?status=unhealthy",
        "results of the one everywhere": f"{everywhere}/results",
        "…, unhealthy ones on one satellite": f"{everywhere}/results?status=unhealthy&on={satellite}",
        "satellites": SATELLITE,
        "satellites, 500 of them": f"{SATELLITE}?limit=500",
        "satellites, the last page": f"{SATELLITE}?after=satellite-01900",
        "satellites with a tag, online": f"{SATELLITE}?limit=500&tag=group-3&status=online",
        "satellites by a selector, few": f"{SATELLITE}?limit=500&selector=env%3Dprod,site%3Dsite-7",
        "satellites by a selector, many": f"{SATELLITE}?limit=500&selector=role!%3Ddb",
        "one satellite": f"{SATELLITE}/{satellite}",
        "runs": "/api/satellite/runs",
        "runs of one satellite": f"{SATELLITE}/{satellite}/runs",
        "the rollout": "/api/satellite/rollout",
        "tokens": "/api/host/tokens",
        "secrets": "/api/secrets/secrets",
        "events": "/api/host/events",
        "events of one stream (audit)": "/api/host/events?stream=access",
        "…, 500 from its middle": f"/api/host/events?stream=access&limit=500&after={position}",
        "failed events": "/api/host/events/failed",
        "the policy's history": "/api/script-packages/sandbox-policy/history",
        "plugins": "/api/host/plugins",
        "rules": "/api/host/rules",
    }


async def timed(act: Callable[[], Awaitable[int]]) -> tuple[float, int]:
    began = time.perf_counter()
    size = await act()
    return (time.perf_counter() - began) * 1000, size


async def paged(api: httpx.AsyncClient, path: str, **query: int) -> int:
    """A whole list."""
    size, after = 0, None
    while True:
        answer = await api.get(
            path, params={"limit": 500, **query} | ({} if after is None else {"after": after})
        )
        assert answer.status_code == 200, answer.text
        size += len(answer.content)
        after = answer.json().get("next")
        if after is None:
            return size


async def measure(api: httpx.AsyncClient, rounds: int, position: int) -> list[Figure]:
    async def get(path: str) -> int:
        answer = await api.get(path)
        assert answer.status_code == 200, (path, answer.text)
        return len(answer.content)

    acts: dict[str, Callable[[], Awaitable[int]]] = {}
    for what, path in requests(position).items():
        acts[what] = partial(get, path)
    for path in (CHECK, SATELLITE):
        acts[f"{path}, pages"] = partial(paged, api, path)
    took: dict[str, list[tuple[float, int]]] = {what: [] for what in acts}
    for number in range(rounds + 1):
        for what, act in acts.items():
            one = await timed(act)
            if number:  # the first warms up
                took[what].append(one)
    medians = {what: statistics.median(ms for ms, _ in found) for what, found in took.items()}
    return [
        Figure(
            what,
            round(ms, 1),
            round(ms / medians["/healthz"], 1),
            round(max(size for _, size in took[what]) / 1000, 1),
        )
        for what, ms in medians.items()
    ]


async def cli(url: str, token: str, *arguments: str) -> tuple[float, int]:
    """A command of the CLI in a process of its own."""
    began = time.perf_counter()
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "ringfence", *arguments),
        env={**os.environ, "RINGFENCE_URL": url, "RINGFENCE_TOKEN": token},
        stdout=asyncio.subprocess.PIPE,
    )
    printed, _ = await process.communicate()
    assert process.returncode == 0, printed
    return (time.perf_counter() - began) * 1000, len(printed)


async def run(wanted: argparse.Namespace) -> list[Figure]:
    directory = make_reachable_directory()
    try:
        async with database() as postgres:
            settings = HostSettings(database_url=postgres.url, data_dir=Path(directory / "instance"))

            def host() -> Host:
                return Host(
                    settings,
                    plugins=[
                        ScriptPackagesPlugin(),
                        SatellitePlugin(),
                        SecretsPlugin(),
                        HealthChecksPlugin(),
                    ],
                )

            async with host():
                pass  # so that the tables are there
            began = time.perf_counter()
            count, position = await fill(postgres.url, wanted.results)
            print(f"{count:,} results loaded in {time.perf_counter() - began:.1f} s", file=sys.stderr)
            with listen("127.0.0.1", 0) as listener:
                async with host() as instance, serving(instance.app, listener):
                    gc.collect()
                    gc.freeze()  # as `ringfence up` does once it serves
                    token = instance.data_dir.admin_token_path.read_text().strip()
                    url = url_of(listener)
                    headers = {"authorization": f"Bearer {token}"}
                    async with httpx.AsyncClient(base_url=url, headers=headers, timeout=120) as api:
                        figures = await measure(api, wanted.rounds, position)
                        healthz = next(one.median_ms for one in figures if one.what == "/healthz")
                        for arguments in (
                            ("--version",),
                            ("check", "list"),
                            ("check", "show", "check-01200"),
                            ("satellite", "list"),
                        ):
                            tries = [await cli(url, token, *arguments) for _ in range(3)]
                            ms = statistics.median(one for one, _ in tries)
                            size = tries[0][1] / 1000
                            figures.append(
                                Figure(
                                    "ringfence " + " ".join(arguments),
                                    round(ms, 1),
                                    round(ms / healthz, 1),
                                    round(size, 1),
                                )
                            )
                        return figures
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.lists", description="Measure lists.")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--results", type=int, default=820_000)
    parser.add_argument("--json", action="store_true", help="print the figures as JSON")
    wanted = parser.parse_args()
    logging.disable(logging.WARNING)
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    figures = asyncio.run(run(wanted))
    if wanted.json:
        print(json.dumps([asdict(one) for one in figures]))
        return
    print(f"{'':<40}{'median':>12}{'/healthz':>10}{'size':>12}")
    for one in figures:
        print(f"{one.what:<40}{one.median_ms:>9} ms{one.times_healthz:>9}x{one.kilobytes:>9} kB")


if __name__ == "__main__":
    main()
