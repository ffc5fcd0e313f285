"""What lists of satellites are sorted by, and agents that were refused."""

from alembic import op

revision = "satellite_0009"
down_revision = "satellite_0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the columns, and an index for each order.

    `silent_at` is the moment from which a satellite counts as offline, in seconds since 1970: before all others where
    it has said goodbye, and never where it has not connected yet. So its order is that of the states.
    """
    op.execute("""
        CREATE FUNCTION satellite_silent_at(heard timestamptz, goodbye timestamptz, patience double precision)
            RETURNS double precision LANGUAGE sql IMMUTABLE
            AS $$ SELECT CASE WHEN heard IS NULL THEN 'Infinity' WHEN goodbye IS NOT NULL THEN 0
                              ELSE extract(epoch FROM heard)::double precision + patience END $$
    """)
    op.execute("""
        ALTER TABLE satellite_satellites
            ADD COLUMN silent_at double precision NOT NULL
                GENERATED ALWAYS AS (satellite_silent_at(last_heartbeat_at, goodbye_at, offline_after_seconds)) STORED,
            ADD COLUMN refused_at timestamptz
    """)
    op.execute("CREATE INDEX satellite_satellites_by_state ON satellite_satellites (silent_at, name)")
    op.execute("""
        CREATE INDEX satellite_satellites_by_heartbeat
            ON satellite_satellites (coalesce(last_heartbeat_at, '-infinity'::timestamptz), name)
    """)
    op.execute("""
        CREATE INDEX satellite_satellites_by_revision
            ON satellite_satellites (coalesce(applied_revision, -1), name)
    """)
    op.execute("CREATE INDEX satellite_satellites_refused ON satellite_satellites (refused_at)")
