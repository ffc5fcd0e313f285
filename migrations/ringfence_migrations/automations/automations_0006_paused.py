"""Why the host has paused an automation is kept beside it."""

from alembic import op

revision = "automations_0006"
down_revision = "automations_0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the column."""
    op.execute("ALTER TABLE automations_automations ADD COLUMN paused text")
