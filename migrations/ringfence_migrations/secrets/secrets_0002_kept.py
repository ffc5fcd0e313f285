"""Values that plugins keep for themselves, encrypted."""

from alembic import op

revision = "secrets_0002"
down_revision = "secrets_0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create the table. Apart from the secrets, so that no statement about those can reach one."""
    op.execute("""
        CREATE TABLE secrets_kept (
            plugin text NOT NULL,
            name text NOT NULL,
            key_id text NOT NULL,
            sealed bytea NOT NULL,
            updated_at timestamptz NOT NULL DEFAULT now(),
            PRIMARY KEY (plugin, name)
        )
    """)
