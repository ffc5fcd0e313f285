"""Incidents know the page that shows what they are about."""

from alembic import op

revision = "notifications_0002"
down_revision = "notifications_0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the column, and find by it what lasts."""
    op.execute("ALTER TABLE notifications_incidents ADD COLUMN link text")
    op.execute("CREATE INDEX notifications_incidents_link ON notifications_incidents (link) WHERE lasts")
    # The dead letters: few among many messages.
    op.execute("""
        CREATE INDEX notifications_messages_failed ON notifications_messages (created_at, id) WHERE status = 'failed'
    """)
