"""Sets remember the lock that they had before, so that people can see what has changed."""

from alembic import op

revision = "script_packages_0003"
down_revision = "script_packages_0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the column."""
    op.execute("ALTER TABLE script_packages_sets ADD COLUMN previous_lock_hash text")
