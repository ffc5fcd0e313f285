"""Attempts that are counted before they are made, so that an event which kills its process is noticed."""

from alembic import op

revision = "host_0003"
down_revision = "host_0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Note who got a group past its last event, and who has begun an attempt that was counted beforehand."""
    op.execute("ALTER TABLE event_cursors ADD COLUMN served_by uuid, ADD COLUMN begun_by uuid")
    op.execute("ALTER TABLE failed_events ADD COLUMN begun_by uuid")
