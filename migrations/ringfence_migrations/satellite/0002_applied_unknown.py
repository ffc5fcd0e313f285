"""Satellites that have applied a revision of the policy which the database does not have."""

from alembic import op

revision = "satellite_0002"
down_revision = "satellite_0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Note it beside the revision."""
    op.execute("ALTER TABLE satellite_satellites ADD COLUMN applied_unknown boolean NOT NULL DEFAULT false")
