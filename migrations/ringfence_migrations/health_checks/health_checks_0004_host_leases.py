"""Leases are the host's; instances of earlier releases go on using them by their old name."""

from alembic import op

revision = "health_checks_0004"
down_revision = "health_checks_0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Hand the leases that there are over, and show the host's in their place, so that there is one leader and not two.

    PostgreSQL writes to a view of one table as to the table itself.
    """
    op.execute("""
        INSERT INTO leases (name, holder, beat) SELECT name, holder, beat FROM health_checks_leases
        ON CONFLICT (name) DO NOTHING
    """)
    op.execute("DROP TABLE health_checks_leases")
    op.execute("CREATE VIEW health_checks_leases AS SELECT name, holder, beat FROM leases")
