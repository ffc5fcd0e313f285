"""Satellites that were declared in a file, and whose token nobody was given yet."""

from alembic import op

revision = "satellite_0010"
down_revision = "satellite_0009"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the column."""
    op.execute("ALTER TABLE satellite_satellites ADD COLUMN unclaimed boolean NOT NULL DEFAULT false")
