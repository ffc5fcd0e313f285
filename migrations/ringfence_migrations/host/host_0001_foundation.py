"""The event log, plugin configs and API tokens."""

from alembic import op

revision = "host_0001"
down_revision = None
branch_labels = ("host",)
depends_on = None

# Appends are serialised by an advisory transaction lock, which is let go only after the commit has become
# visible. So positions become visible in order, and a reader that has seen position N can never later find one
# below N. The lock is taken before the stream is read: under READ COMMITTED each statement of a function has a
# snapshot of its own, so the version read after the wait is the newest one.
APPEND = """
CREATE FUNCTION ringfence_append_event(
    a_stream text, a_hook text, a_plugin text, a_payload jsonb,
    a_actor text, a_reason text, a_expected_version bigint, a_instance uuid
) RETURNS TABLE (r_position bigint, r_version bigint, r_occurred_at timestamptz, r_current_version bigint)
LANGUAGE plpgsql AS $$
DECLARE
    previous_version bigint := 0;
    previous_hash bytea := '\\x';
    happened timestamptz;
BEGIN
    PERFORM pg_advisory_xact_lock(hashtextextended('ringfence.events', 0));
    SELECT version, hash INTO previous_version, previous_hash
      FROM events WHERE stream = a_stream ORDER BY version DESC LIMIT 1;
    IF NOT FOUND THEN
        previous_version := 0;
        previous_hash := '\\x';
    END IF;
    IF a_expected_version IS NOT NULL AND a_expected_version <> previous_version THEN
        RETURN QUERY SELECT NULL::bigint, NULL::bigint, NULL::timestamptz, previous_version;
        RETURN;
    END IF;
    happened := clock_timestamp();
    RETURN QUERY
    INSERT INTO events (stream, version, hook, plugin, payload, actor, reason, occurred_at, instance, hash)
    VALUES (
        a_stream, previous_version + 1, a_hook, a_plugin, a_payload, a_actor, a_reason, happened, a_instance,
        ringfence_event_hash(
            previous_hash, a_stream, previous_version + 1, a_hook, a_plugin, a_payload, a_actor, a_reason, happened)
    )
    RETURNING position, version, occurred_at, version;
    NOTIFY ringfence_events;
END $$
"""

# The hash covers every column that says something, as one JSON array: unambiguous, whatever the texts hold.
HASH = """
CREATE FUNCTION ringfence_event_hash(
    a_previous bytea, a_stream text, a_version bigint, a_hook text, a_plugin text, a_payload jsonb,
    a_actor text, a_reason text, a_occurred_at timestamptz
) RETURNS bytea LANGUAGE sql IMMUTABLE AS $$
    SELECT sha256(convert_to(jsonb_build_array(
        encode(a_previous, 'hex'), a_stream, a_version, a_hook, a_plugin, a_payload, a_actor, a_reason,
        (extract(epoch FROM a_occurred_at) * 1000000)::bigint
    )::text, 'UTF8'))
$$
"""


def upgrade() -> None:
    """Create the host's tables."""
    op.execute("""
        CREATE TABLE events (
            position bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
            stream text NOT NULL,
            version bigint NOT NULL CHECK (version > 0),
            hook text NOT NULL,
            plugin text NOT NULL,
            payload jsonb NOT NULL,
            actor text,
            reason text,
            occurred_at timestamptz NOT NULL,
            instance uuid NOT NULL,
            hash bytea NOT NULL,
            UNIQUE (stream, version)
        )
    """)
    op.execute(HASH)
    op.execute(APPEND)
    op.execute("""
        CREATE TABLE plugin_configs (
            plugin text NOT NULL,
            key text NOT NULL,
            schema_version integer NOT NULL CHECK (schema_version > 0),
            value jsonb NOT NULL,
            updated_at timestamptz NOT NULL,
            updated_by text,
            PRIMARY KEY (plugin, key)
        )
    """)
    op.execute("""
        CREATE TABLE api_tokens (
            id uuid PRIMARY KEY,
            name text NOT NULL,
            digest bytea NOT NULL UNIQUE CHECK (length(digest) = 32),
            rules text[] NOT NULL,
            created_at timestamptz NOT NULL DEFAULT now(),
            created_by text,
            last_used_at timestamptz,
            revoked_at timestamptz
        )
    """)
    op.execute("CREATE UNIQUE INDEX api_tokens_live_name ON api_tokens (name) WHERE revoked_at IS NULL")
