"""Leases: which instance does what only one may do. Health checks had such a table before, for themselves."""

from alembic import op

revision = "host_0009"
down_revision = "host_0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create the table of leases."""
    # Without a time: when a lease runs out is judged by its holder's clock and by its successor's, never by comparing
    # two clocks.
    op.execute("""
        CREATE TABLE leases (
            name text PRIMARY KEY,
            holder uuid,
            beat bigint NOT NULL DEFAULT 0
        )
    """)
