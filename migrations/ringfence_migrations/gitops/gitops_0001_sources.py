"""The git repositories that are followed, and the objects that are released from them."""

from alembic import op

revision = "gitops_0001"
down_revision = None
branch_labels = ("gitops",)
depends_on = None


def upgrade() -> None:
    """Create the tables."""
    op.execute("""
        CREATE TABLE gitops_sources (
            id uuid PRIMARY KEY,
            name text NOT NULL UNIQUE,
            revision bigint NOT NULL DEFAULT 1,
            spec jsonb NOT NULL,
            acts_for text NOT NULL,
            token text NOT NULL,
            created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
            created_by text NOT NULL,
            updated_at timestamptz NOT NULL DEFAULT clock_timestamp(),
            updated_by text NOT NULL,
            status text NOT NULL DEFAULT 'new' CHECK (status IN ('new', 'synced', 'failed')),
            commit text,
            subject text,
            author text,
            signer text,
            committed_at timestamptz,
            objects integer NOT NULL DEFAULT 0,
            synced_at timestamptz,
            tried_at timestamptz,
            failing_since timestamptz,
            error text,
            findings jsonb NOT NULL DEFAULT '[]',
            webhook_digest bytea UNIQUE CHECK (length(webhook_digest) = 32),
            webhook_used_at timestamptz
        )
    """)
    op.execute("""
        CREATE TABLE gitops_released (
            kind text NOT NULL,
            name text NOT NULL,
            source_id uuid NOT NULL REFERENCES gitops_sources ON DELETE CASCADE,
            released_at timestamptz NOT NULL DEFAULT clock_timestamp(),
            released_by text NOT NULL,
            reason text,
            PRIMARY KEY (kind, name)
        )
    """)
