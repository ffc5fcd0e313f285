"""Appending an event and storing the config that is its projection, in one exchange with the database."""

from alembic import op

revision = "host_0008"
down_revision = "host_0007"
branch_labels = None
depends_on = None

# Nothing is written, and `r_position` is null, unless the stream is at the expected version and the config is the one
# that was last written at `c_replaces` (null: there is none). The log's lock comes first, so that of two who write
# the same config in this way each waits for the other as a whole.
APPEND = """
CREATE FUNCTION ringfence_append_with_config(
    a_stream text, a_hook text, a_plugin text, a_payload jsonb,
    a_actor text, a_reason text, a_expected_version bigint, a_instance uuid, a_keep_forever boolean,
    c_key text, c_version integer, c_value jsonb, c_replaces timestamptz, c_updated_at timestamptz, c_updated_by text,
    OUT r_position bigint, OUT r_version bigint, OUT r_occurred_at timestamptz
) LANGUAGE plpgsql AS $$
DECLARE
    stored_at timestamptz;
    stored_version integer;
BEGIN
    PERFORM pg_advisory_xact_lock(hashtextextended('ringfence.events', 0));
    SELECT updated_at, schema_version INTO stored_at, stored_version
      FROM plugin_configs WHERE plugin = a_plugin AND key = c_key FOR UPDATE;
    IF stored_at IS DISTINCT FROM c_replaces OR stored_version > c_version THEN
        RETURN;
    END IF;
    SELECT one.r_position, one.r_version, one.r_occurred_at INTO r_position, r_version, r_occurred_at
      FROM ringfence_append_event(
        a_stream, a_hook, a_plugin, a_payload, a_actor, a_reason, a_expected_version, a_instance, a_keep_forever
      ) AS one;
    IF r_position IS NULL THEN
        RETURN;
    END IF;
    INSERT INTO plugin_configs (plugin, key, schema_version, value, updated_at, updated_by)
    VALUES (a_plugin, c_key, c_version, c_value, c_updated_at, c_updated_by)
    ON CONFLICT (plugin, key) DO UPDATE SET schema_version = excluded.schema_version,
        value = excluded.value, updated_at = excluded.updated_at, updated_by = excluded.updated_by;
END $$
"""


def upgrade() -> None:
    """Create the function."""
    op.execute(APPEND)
