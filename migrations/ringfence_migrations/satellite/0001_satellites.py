"""Satellites, and runs on their way between instances."""

from alembic import op

revision = "satellite_0001"
down_revision = None
branch_labels = ("satellite",)
depends_on = None


def upgrade() -> None:
    """Create the satellite plugin's tables."""
    op.execute("""
        CREATE TABLE satellite_satellites (
            id uuid PRIMARY KEY,
            name text NOT NULL UNIQUE,
            region text NOT NULL,
            tags text[] NOT NULL DEFAULT '{}',
            token_digest bytea NOT NULL CHECK (length(token_digest) = 32),
            offline_after_seconds double precision NOT NULL CHECK (offline_after_seconds > 0),
            created_at timestamptz NOT NULL DEFAULT now(),
            created_by text,
            connection uuid,
            instance uuid,
            connected_at timestamptz,
            goodbye_at timestamptz,
            last_heartbeat_at timestamptz,
            lost_heartbeat_at timestamptz,
            version text,
            capabilities jsonb,
            applied_revision bigint,
            applied_at timestamptz,
            enforced jsonb NOT NULL DEFAULT '{}',
            downgrades jsonb NOT NULL DEFAULT '[]'
        )
    """)
    op.execute("CREATE INDEX satellite_satellites_tags ON satellite_satellites USING gin (tags)")
    op.execute("CREATE INDEX satellite_satellites_heartbeat ON satellite_satellites (last_heartbeat_at)")
    # A mailbox, not a record: a row lives from the request until the answer is fetched. Scripts and outputs do not
    # belong in the event log, which is kept; the events that announce them carry only the run's id.
    op.execute("""
        CREATE TABLE satellite_runs (
            id uuid PRIMARY KEY,
            satellite_id uuid NOT NULL REFERENCES satellite_satellites ON DELETE CASCADE,
            request text NOT NULL,
            answer text,
            created_at timestamptz NOT NULL DEFAULT now(),
            expires_at timestamptz NOT NULL
        )
    """)
    op.execute("CREATE INDEX satellite_runs_expiry ON satellite_runs (expires_at)")
