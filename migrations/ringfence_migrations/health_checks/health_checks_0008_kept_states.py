"""What a check keeps from one run on the core to the next."""

from alembic import op

revision = "health_checks_0008"
down_revision = "health_checks_0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the table. The policy bounds a state, and its form adds the names and modes of its files."""
    op.execute("""
        CREATE TABLE health_checks_kept_states (
            check_id uuid PRIMARY KEY REFERENCES health_checks_checks ON DELETE CASCADE,
            version bigint NOT NULL,
            state bytea NOT NULL CHECK (octet_length(state) <= 80 * 1024 * 1024),
            stored_at timestamptz NOT NULL DEFAULT now()
        )
    """)
    op.execute("ALTER TABLE health_checks_kept_states ALTER COLUMN state SET STORAGE EXTERNAL")
