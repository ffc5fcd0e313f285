"""Silences: whose changes of state nobody wants to be told of for a while."""

from alembic import op

revision = "health_checks_0007"
down_revision = "health_checks_0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the table. One that has ended is kept for a while, to be looked up."""
    op.execute("""
        CREATE TABLE health_checks_silences (
            id uuid PRIMARY KEY,
            number bigint GENERATED ALWAYS AS IDENTITY UNIQUE,
            check_id uuid REFERENCES health_checks_checks ON DELETE CASCADE,
            label text,
            place text,
            reason text NOT NULL,
            starts_at timestamptz NOT NULL,
            ends_at timestamptz NOT NULL,
            created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
            created_by text NOT NULL,
            ended_by text,
            CHECK (check_id IS NOT NULL OR label IS NOT NULL OR place IS NOT NULL)
        )
    """)
