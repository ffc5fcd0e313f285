"""Appending with less work for each event."""

from alembic import op

revision = "host_0005"
down_revision = "host_0004"
branch_labels = None
depends_on = None

# The hash calls functions that are only STABLE, as `jsonb_build_array` is. While its own function claimed to be
# IMMUTABLE, the planner could not put its expression in place of the call, and each call started an executor
# (https://wiki.postgresql.org/wiki/Inlining_of_SQL_functions).
HASH = "ALTER FUNCTION ringfence_event_hash STABLE"

# Many events of one hook: one lookup for all streams, one INSERT for all rows, and one alarm. `a_streams` are the
# streams, each once; `a_of[n]` says which of them is that of `a_payloads[n]`, from 1.
# `ringfence_append_events` of host_0004 stays for instances of the release before this one.
APPEND = """
CREATE FUNCTION ringfence_append_batch(
    a_streams text[], a_of integer[], a_payloads jsonb[], a_hook text, a_plugin text,
    a_actor text, a_reason text, a_instance uuid, a_keep_forever boolean
) RETURNS void LANGUAGE plpgsql SET enable_seqscan = off SET enable_bitmapscan = off SET enable_sort = off AS $$
DECLARE
    newest_version bigint[];
    newest_hash bytea[];
    of_stream integer;
    versions bigint[];
    times timestamptz[];
    hashes bytea[];
BEGIN
    PERFORM pg_advisory_xact_lock(hashtextextended('ringfence.events', 0));
    SELECT array_agg(coalesce(newest.version, 0) ORDER BY one.place),
           array_agg(coalesce(newest.hash, '') ORDER BY one.place)
      INTO newest_version, newest_hash
      FROM unnest(a_streams) WITH ORDINALITY AS one (stream, place)
      LEFT JOIN LATERAL (
        SELECT version, hash FROM events WHERE stream = one.stream ORDER BY version DESC LIMIT 1
      ) AS newest ON true;
    FOR place IN 1 .. cardinality(a_of) LOOP
        of_stream := a_of[place];
        versions[place] := newest_version[of_stream] + 1;
        times[place] := clock_timestamp();
        hashes[place] := ringfence_event_hash(
            newest_hash[of_stream], a_streams[of_stream], versions[place], a_hook, a_plugin, a_payloads[place], a_actor,
            a_reason, times[place]);
        newest_version[of_stream] := versions[place];
        newest_hash[of_stream] := hashes[place];
    END LOOP;
    INSERT INTO events (stream, version, hook, plugin, payload, actor, reason, occurred_at, instance, hash,
                        keep_forever)
    SELECT a_streams[one.of_stream], one.version, a_hook, a_plugin, one.payload, a_actor, a_reason, one.occurred_at,
           a_instance, one.hash, a_keep_forever
      FROM unnest(a_of, versions, a_payloads, times, hashes)
           WITH ORDINALITY AS one (of_stream, version, payload, occurred_at, hash, place)
     ORDER BY one.place;
    PERFORM pg_notify('ringfence_events', '');
END $$
"""


def upgrade() -> None:
    """Change the one and create the other."""
    op.execute(HASH)
    op.execute(APPEND)
