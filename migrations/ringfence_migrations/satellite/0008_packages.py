"""How far the sets of packages are on each satellite."""

from alembic import op

revision = "satellite_0008"
down_revision = "satellite_0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the table: what was reported last, by satellite and set."""
    op.execute("""
        CREATE TABLE satellite_packages (
            satellite_id uuid NOT NULL REFERENCES satellite_satellites ON DELETE CASCADE,
            set_name text NOT NULL,
            lock_hash text NOT NULL,
            state text NOT NULL,
            have bigint NOT NULL,
            wanted bigint NOT NULL,
            error text,
            reported_at timestamptz NOT NULL DEFAULT now(),
            PRIMARY KEY (satellite_id, set_name)
        )
    """)
    op.execute("CREATE INDEX satellite_packages_of_set ON satellite_packages (set_name, lock_hash)")
