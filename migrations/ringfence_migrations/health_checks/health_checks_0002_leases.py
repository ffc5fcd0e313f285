"""Leases: which instance does what only one may do."""

from alembic import op

revision = "health_checks_0002"
down_revision = "health_checks_0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create the table of leases."""
    # Without a time: when a lease runs out is judged by its holder's clock and by its successor's, never by comparing
    # two clocks.
    op.execute("""
        CREATE TABLE health_checks_leases (
            name text PRIMARY KEY,
            holder uuid,
            beat bigint NOT NULL DEFAULT 0
        )
    """)
