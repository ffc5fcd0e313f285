"""What has stopped the newest run of a check in a place."""

from alembic import op

revision = "health_checks_0010"
down_revision = "health_checks_0009"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the column."""
    op.execute("ALTER TABLE health_checks_latest ADD COLUMN stopped text")
