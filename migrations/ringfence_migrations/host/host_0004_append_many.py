"""Appending any number of events in one call."""

from alembic import op

revision = "host_0004"
down_revision = "host_0003"
branch_labels = None
depends_on = None

# As `ringfence_append_event` of host_0002, which stays for instances of the release before this one, and for many
# events of one hook: one lock and one alarm for all, and a stream's newest event is looked up once for each run of
# events of that stream. What it answers is about the last event; `a_expected_version` is of the first one's stream.
APPEND = """
CREATE FUNCTION ringfence_append_events(
    a_streams text[], a_payloads jsonb[], a_hook text, a_plugin text,
    a_actor text, a_reason text, a_expected_version bigint, a_instance uuid, a_keep_forever boolean,
    OUT r_position bigint, OUT r_version bigint, OUT r_occurred_at timestamptz, OUT r_current_version bigint
) LANGUAGE plpgsql SET enable_seqscan = off SET enable_bitmapscan = off SET enable_sort = off AS $$
DECLARE
    current_stream text;
    current_hash bytea;
BEGIN
    PERFORM pg_advisory_xact_lock(hashtextextended('ringfence.events', 0));
    FOR place IN 1 .. cardinality(a_streams) LOOP
        IF current_stream IS DISTINCT FROM a_streams[place] THEN
            current_stream := a_streams[place];
            SELECT version, hash INTO r_current_version, current_hash
              FROM events WHERE stream = current_stream ORDER BY version DESC LIMIT 1;
            r_current_version := coalesce(r_current_version, 0);
            current_hash := coalesce(current_hash, '');
            IF place = 1 AND a_expected_version <> r_current_version THEN
                RETURN;
            END IF;
        END IF;
        r_current_version := r_current_version + 1;
        r_occurred_at := clock_timestamp();
        current_hash := ringfence_event_hash(
            current_hash, current_stream, r_current_version, a_hook, a_plugin, a_payloads[place], a_actor, a_reason,
            r_occurred_at);
        INSERT INTO events (stream, version, hook, plugin, payload, actor, reason, occurred_at, instance, hash,
                            keep_forever)
        VALUES (current_stream, r_current_version, a_hook, a_plugin, a_payloads[place], a_actor, a_reason,
                r_occurred_at, a_instance, current_hash, a_keep_forever)
        RETURNING position INTO r_position;
    END LOOP;
    r_version := r_current_version;
    PERFORM pg_notify('ringfence_events', '');
END $$
"""


def upgrade() -> None:
    """Create the function."""
    op.execute(APPEND)
