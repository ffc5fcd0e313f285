"""The statements that answer how all checks stand, each in one look at the newest results.

Everything about thousands of checks that does not depend on whom it is for is worked out by the database: which stand
first, how many there are of which, and a text that is another one once something else would be shown. What comes over
the connection is what is shown.
"""

from __future__ import annotations

from functools import cache

from sqlalchemy import TextClause, text

from ringfence_health_checks.silences.silenced import SILENCED
from ringfence_health_checks.states.current_states import IS_ABSENT, OVERDUE

PLACES = {"place": "AND latest.ran_on = :place", "label": "AND :label = ANY(latest.place_labels)"}
"""Which places are asked for is written into the statement: one that fits any filter would be planned for none."""
_MATCHES = {
    "words": """(SELECT bool_and(strpos(lower(name || ' ' || system), lower(word)) > 0)
                   FROM unnest(CAST(:words AS text[])) AS word)""",
    "rank": "rank = :rank",
    "system": "system = :system",
}
_GOES_ON = '(rank, name COLLATE "C") > (CAST(:after_rank AS integer), CAST(:after_name AS text))'
# `shown` is the state of a place as its number in `STATES`. A subquery in which the clock is asked is not taken apart,
# so that each place is looked at once; what only places need that are not well is asked of those alone.
_PLACES = f"""
    SELECT latest.*, CASE WHEN stale THEN 1 WHEN status = 'healthy' THEN 3 WHEN status = 'degraded' THEN 2
                          WHEN status = 'unhealthy' THEN 0 ELSE 1 END AS shown
      FROM (SELECT latest.check_id, latest.ran_on, latest.place_labels, latest.status, latest.message,
                   latest.executed_at, latest.settling,
                   latest.grace_seconds IS NOT NULL
                   AND (latest.ran_on {IS_ABSENT} OR {OVERDUE} < clock_timestamp()) AS stale
              FROM health_checks_latest AS latest
             WHERE latest.placed_at IS NOT NULL {{places}}) AS latest
"""  # noqa: S608
_SINCE = "CAST(settling ->> 'since' AS timestamptz)"
_RANKED = f"""
    WITH seen AS (
        SELECT check_id, count(*) FILTER (WHERE shown = 0) AS unhealthy, count(*) FILTER (WHERE shown = 1) AS unknown,
               count(*) FILTER (WHERE shown = 2) AS degraded, count(*) FILTER (WHERE shown = 3) AS healthy,
               count(*) FILTER (WHERE silenced) AS quiet, count(*) FILTER (WHERE stale) AS stale, min(shown) AS worst,
               min(since) FILTER (WHERE shown = 0) AS unhealthy_since,
               min(since) FILTER (WHERE shown = 1) AS unknown_since,
               min(since) FILTER (WHERE shown = 2) AS degraded_since,
               nullif(max(executed_at), '-infinity') AS executed_at
          FROM (SELECT check_id, shown, stale, executed_at, CASE WHEN shown < 3 THEN {SILENCED} END AS silenced,
                       CASE WHEN shown < 3 THEN {_SINCE} END AS since
                  FROM ({_PLACES}) AS latest) AS one
         GROUP BY check_id
    ), ranked AS MATERIALIZED (
        SELECT id, name, system, unhealthy, unknown, degraded, healthy, stale, worst, executed_at,
               CASE worst WHEN 0 THEN unhealthy_since WHEN 1 THEN unknown_since WHEN 2 THEN degraded_since END AS since,
               CASE WHEN enabled THEN coalesce(worst, 1) ELSE 4 END AS rank,
               silenced OR unhealthy + unknown + degraded BETWEEN 1 AND quiet AS is_quiet
          FROM (SELECT checks.id, checks.name, checks.outline ->> 'system' AS system,
                       coalesce(CAST(checks.outline ->> 'enabled' AS boolean), true) AS enabled,
                       coalesce(seen.unhealthy, 0) AS unhealthy, coalesce(seen.unknown, 0) AS unknown,
                       coalesce(seen.degraded, 0) AS degraded, coalesce(seen.healthy, 0) AS healthy,
                       coalesce(seen.quiet, 0) AS quiet, coalesce(seen.stale, 0) AS stale, seen.worst,
                       seen.unhealthy_since, seen.unknown_since, seen.degraded_since, seen.executed_at,
                       EXISTS (SELECT FROM health_checks_silences AS silence
                                WHERE silence.check_id = checks.id AND silence.label IS NULL AND silence.place IS NULL
                                  AND clock_timestamp() >= silence.starts_at
                                  AND clock_timestamp() < silence.ends_at) AS silenced
                  FROM health_checks_checks AS checks {{join}} JOIN seen ON seen.check_id = checks.id) AS checks
    )
"""  # noqa: S608
_COLUMNS = "id, name, system, rank, is_quiet, unhealthy, unknown, degraded, healthy, stale, executed_at"
# The order of the rows plays no part in a sum.
_SEEN = """(SELECT CAST(sum(hashtextextended(concat_ws(' ', id, rank, unhealthy, unknown, degraded, healthy, is_quiet),
                                              0)) AS text) FROM ranked)"""
# Since when all is well is asked of those checks alone that are shown: it is the one thing that all places have.
_PAGE = f"""
    {_RANKED}
    SELECT its.found, its.seen, its.systems, page.*,
           CASE WHEN worst < 3 THEN troubled_since
                ELSE (SELECT min({_SINCE}) FROM health_checks_latest AS latest
                       WHERE latest.check_id = page.id AND latest.placed_at IS NOT NULL {{places}}) END AS since,
           place.ran_on, place.message
      FROM (SELECT (SELECT count(*) FROM ranked WHERE {{matches}}) AS found, {_SEEN} AS seen,
                   ARRAY(SELECT DISTINCT system COLLATE "C" FROM ranked ORDER BY 1
                          LIMIT :most_systems) AS systems) AS its
      LEFT JOIN (SELECT {_COLUMNS}, worst, since AS troubled_since FROM ranked WHERE {{matches}} {{goes_on}}
                  ORDER BY rank, name COLLATE "C" LIMIT :limit) AS page ON true
      LEFT JOIN LATERAL (
           SELECT ran_on, message
             FROM ({_PLACES.replace("{places}", "AND latest.check_id = page.id {places}")}) AS latest
            ORDER BY shown, nullif(executed_at, '-infinity') DESC NULLS LAST, ran_on LIMIT 1) AS place ON true
     ORDER BY page.rank, page.name COLLATE "C"
"""  # noqa: S608
# Of how many nobody has known for long how they are, or never, though they should have run.
_LONG_UNKNOWN = """rank = 1 AND coalesce(since <= clock_timestamp() - make_interval(secs => :long), true)
                   AND (executed_at IS NOT NULL OR stale > 0 OR worst IS NULL)"""
_COUNTED = f"""
    {_RANKED}, told AS MATERIALIZED (
        SELECT *, NOT is_quiet AND (rank IN (0, 2) OR {_LONG_UNKNOWN}) AS troubles FROM ranked
    )
    SELECT groups.*, first.*
      FROM (SELECT rank AS group_rank, troubles, count(*) AS checks, count(*) FILTER (WHERE is_quiet) AS quiet,
                   CAST(sum(unhealthy) AS bigint), CAST(sum(unknown) AS bigint), CAST(sum(degraded) AS bigint),
                   CAST(sum(healthy) AS bigint), CAST(sum(stale) AS bigint)
              FROM told GROUP BY rank, troubles) AS groups
      LEFT JOIN LATERAL (
           SELECT {_COLUMNS}, since FROM told
            WHERE groups.troubles AND told.troubles AND told.rank = groups.group_rank
            ORDER BY name COLLATE "C" LIMIT :named) AS first ON true
     ORDER BY group_rank, groups.troubles, first.name COLLATE "C"
"""  # noqa: S608


@cache
def of_a_page(places: frozenset[str], filters: frozenset[str], *, goes_on: bool) -> TextClause:
    """Some checks, with how many there are of such, and what one may look for: each of these names is a value, too."""
    matches = " AND ".join(["true", *(_MATCHES[name] for name in sorted(filters))])
    return text(
        _PAGE.format(**_filled(places), matches=matches, goes_on=f"AND {_GOES_ON}" if goes_on else "")
    )


@cache
def of_all() -> TextClause:
    """A text that is another one once something else would be shown of any check."""
    return text(f"{_RANKED}SELECT {_SEEN}".format(**_filled(frozenset())))


@cache
def of_groups() -> TextClause:
    """How many checks are how, and of those that somebody should see to the first."""
    return text(_COUNTED.format(**_filled(frozenset())))


def _filled(places: frozenset[str]) -> dict[str, str]:
    return {
        "join": "" if places else "LEFT",
        "places": " ".join(PLACES[name] for name in sorted(places)),
    }
