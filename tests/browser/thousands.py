"""A fleet of thousands, written into the database at once: what a page of it costs is about reading it."""

from __future__ import annotations

import asyncio

import psycopg
from ringfence.host import Host

SATELLITES, CHECKS, PLACES = 5000, 2000, 3
ONLINE = 100
"""So many of them stay online, however long a test takes."""
_FILL = """
INSERT INTO satellite_satellites (id, name, region, tags, labels, vars, token_digest, offline_after_seconds,
                                  last_heartbeat_at, version, capabilities, applied_revision, applied_at, enforced)
SELECT md5('s' || n)::uuid, 'satellite-' || lpad(n::text, 5, '0'), 'region-' || n %% 10, ARRAY['all'],
       jsonb_build_object('env', (ARRAY['prod', 'dev'])[1 + n %% 2]), '{}', sha256(n::text::bytea),
       CASE WHEN n <= %(online)s THEN 86400 ELSE 45 END, now() - make_interval(secs => n), '0.1.0', '{}', 0, now(),
       '{"network": true}'
  FROM generate_series(1, %(satellites)s) AS n;
INSERT INTO health_checks_checks (id, name, definition, created_by, updated_by)
SELECT md5('c' || n)::uuid, 'check-' || lpad(n::text, 5, '0'), jsonb_build_object(
           'name', 'check-' || lpad(n::text, 5, '0'), 'system', 'system-' || n %% 50, 'kind', 'shell',
           'script', 'echo fine', 'cron', '0 0 1 1 *', 'timeoutSeconds', 30, 'secrets', '[]'::jsonb,
           'enabled', true, 'runsOn', jsonb_build_object('core', false, 'satellites', '[]'::jsonb,
                                                         'tags', jsonb_build_array('check-' || n))),
       'test', 'test'
  FROM generate_series(1, %(checks)s) AS n;
CREATE TEMPORARY TABLE places AS
SELECT md5('c' || c)::uuid AS check_id, md5('s' || 1 + (c * 37 + i * 251) %% %(satellites)s)::uuid::text AS ran_on, c, i
  FROM generate_series(1, %(checks)s) AS c, generate_series(1, %(places)s) AS i;
UPDATE satellite_satellites AS satellite SET tags = satellite.tags || its.tags
  FROM (SELECT ran_on, array_agg('check-' || c) AS tags FROM places GROUP BY ran_on) AS its
 WHERE satellite.id = CAST(its.ran_on AS uuid);
INSERT INTO health_checks_results (ran_on, id, check_id, system, status, latency_ms, message, metrics, detail,
                                   executed_at)
SELECT ran_on, md5(c || '-' || i), check_id, 'system-' || c %% 50,
       CASE WHEN (c + i) %% 40 = 0 THEN 'unhealthy' ELSE 'healthy' END, 12.5, 'all is well', '{}', '{}', now()
  FROM places;
INSERT INTO health_checks_latest (check_id, ran_on, status, latency_ms, message, executed_at, placed_at, grace_seconds,
                                  settling)
SELECT check_id, ran_on, status, latency_ms, message, executed_at, now(), 100000000,
       jsonb_build_object('status', status, 'since', now(), 'last', status, 'streak', 0, 'changes', '[]'::jsonb,
                          'flapping', false, 'stale', false, 'held', '[null, null]'::jsonb)
  FROM health_checks_results;
ANALYZE;
"""


async def fill_with_thousands(host: Host) -> None:
    """Write satellites, checks, and how each check is in its places."""
    values = {"satellites": SATELLITES, "checks": CHECKS, "places": PLACES, "online": ONLINE}
    await asyncio.to_thread(_fill, host.database.libpq_url, values)


def _fill(url: str, values: dict[str, int]) -> None:
    with psycopg.connect(url) as connection, psycopg.ClientCursor(connection) as cursor:
        cursor.execute(_FILL, values)
