"""Work-queues: who is in the fleet, which worker groups they serve, how far each group is, and what it set aside."""

from alembic import op

revision = "host_0002"
down_revision = "host_0001"
branch_labels = None
depends_on = None

# As in host_0001, and it notes whether the event is to be kept for ever: retention must know that even when the
# plugin that declared the hook is not installed. The settings hold the newest event's lookup to the index: a plan
# that was made (and cached by the connection) while the table was small would otherwise read all of it, each time.
APPEND = """
CREATE FUNCTION ringfence_append_event(
    a_stream text, a_hook text, a_plugin text, a_payload jsonb,
    a_actor text, a_reason text, a_expected_version bigint, a_instance uuid, a_keep_forever boolean,
    OUT r_position bigint, OUT r_version bigint, OUT r_occurred_at timestamptz, OUT r_current_version bigint
) LANGUAGE plpgsql SET enable_seqscan = off SET enable_bitmapscan = off SET enable_sort = off AS $$
DECLARE
    previous_hash bytea;
BEGIN
    PERFORM pg_advisory_xact_lock(hashtextextended('ringfence.events', 0));
    SELECT version, hash INTO r_current_version, previous_hash
      FROM events WHERE stream = a_stream ORDER BY version DESC LIMIT 1;
    r_current_version := coalesce(r_current_version, 0);
    IF a_expected_version <> r_current_version THEN
        RETURN;
    END IF;
    r_version := r_current_version + 1;
    r_occurred_at := clock_timestamp();
    INSERT INTO events (stream, version, hook, plugin, payload, actor, reason, occurred_at, instance, hash,
                        keep_forever)
    VALUES (
        a_stream, r_version, a_hook, a_plugin, a_payload, a_actor, a_reason, r_occurred_at, a_instance,
        ringfence_event_hash(
            coalesce(previous_hash, ''), a_stream, r_version, a_hook, a_plugin, a_payload, a_actor, a_reason,
            r_occurred_at),
        a_keep_forever)
    RETURNING position INTO r_position;
    PERFORM pg_notify('ringfence_events', '');
END $$
"""


def upgrade() -> None:
    """Mark events to be kept for ever, and create the tables of the fleet."""
    # Of the events that are there already nobody has said whether they may go, so they stay.
    op.execute("ALTER TABLE events ADD COLUMN keep_forever boolean NOT NULL DEFAULT true")
    op.execute("ALTER TABLE events ALTER COLUMN keep_forever DROP DEFAULT")
    op.execute("CREATE INDEX events_kept ON events (stream) WHERE keep_forever")
    op.execute("DROP FUNCTION ringfence_append_event(text, text, text, jsonb, text, text, bigint, uuid)")
    op.execute(APPEND)
    # `cursor` is how far the instance's tailer is. All times are the database's: hosts' clocks differ.
    op.execute("""
        CREATE TABLE event_instances (
            instance uuid PRIMARY KEY,
            cursor bigint NOT NULL,
            seen_at timestamptz NOT NULL
        )
    """)
    # Which instance could serve which worker group, and which one does.
    op.execute("""
        CREATE TABLE event_workers (
            instance uuid NOT NULL REFERENCES event_instances ON DELETE CASCADE,
            plugin text NOT NULL,
            worker_group text NOT NULL,
            holds boolean NOT NULL DEFAULT false,
            PRIMARY KEY (instance, plugin, worker_group)
        )
    """)
    op.execute("CREATE UNIQUE INDEX event_workers_holder ON event_workers (plugin, worker_group) WHERE holds")
    # `position` is the last event that the group is done with; `attempts` and `retry_at` are about the next one.
    op.execute("""
        CREATE TABLE event_cursors (
            plugin text NOT NULL,
            worker_group text NOT NULL,
            position bigint NOT NULL,
            attempts integer NOT NULL DEFAULT 0,
            retry_at timestamptz,
            served_at timestamptz NOT NULL,
            PRIMARY KEY (plugin, worker_group)
        )
    """)
    op.execute("""
        CREATE TABLE failed_events (
            id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
            plugin text NOT NULL,
            worker_group text NOT NULL,
            position bigint NOT NULL REFERENCES events,
            attempts integer NOT NULL,
            error text NOT NULL,
            failed_at timestamptz NOT NULL,
            replay boolean NOT NULL DEFAULT false,
            UNIQUE (plugin, worker_group, position)
        )
    """)
    op.execute("CREATE INDEX failed_events_position ON failed_events (position)")
