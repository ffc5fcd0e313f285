"""The heads of streams as they were found when these were last verified."""

from alembic import op

revision = "host_0011"
down_revision = "host_0010"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the table. `told`: of which version it was told that it does not fit."""
    op.execute("""
        CREATE TABLE event_anchors (
            stream text PRIMARY KEY,
            version bigint NOT NULL,
            hash text NOT NULL,
            told bigint,
            noted_at timestamptz NOT NULL DEFAULT clock_timestamp()
        )
    """)
