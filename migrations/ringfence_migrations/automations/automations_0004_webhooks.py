"""The addresses of webhooks: a digest of each one's secret."""

from alembic import op

revision = "automations_0004"
down_revision = "automations_0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create the table."""
    op.execute("""
        CREATE TABLE automations_webhooks (
            automation text PRIMARY KEY,
            digest bytea NOT NULL UNIQUE CHECK (length(digest) = 32),
            created_at timestamptz NOT NULL,
            created_by text NOT NULL,
            last_used_at timestamptz
        )
    """)
