"""Secrets, encrypted."""

from alembic import op

revision = "secrets_0001"
down_revision = None
branch_labels = ("secrets",)
depends_on = None


def upgrade() -> None:
    """Create the secrets plugin's table."""
    op.execute("""
        CREATE TABLE secrets_secrets (
            name text PRIMARY KEY,
            key_id text NOT NULL,
            sealed bytea NOT NULL,
            created_at timestamptz NOT NULL DEFAULT now(),
            updated_at timestamptz NOT NULL DEFAULT now(),
            updated_by text NOT NULL
        )
    """)
