"""Sessions of browsers, each with the token that it was begun with, and links that begin one."""

from alembic import op

revision = "host_0012"
down_revision = "host_0011"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the tables. A session's rights are those of its token, so it holds none of its own."""
    op.execute("""
        CREATE TABLE browser_sessions (
            id uuid PRIMARY KEY,
            digest bytea NOT NULL UNIQUE,
            token uuid NOT NULL REFERENCES api_tokens (id) ON DELETE CASCADE,
            peer text NOT NULL,
            browser text,
            created_at timestamptz NOT NULL DEFAULT now(),
            used_at timestamptz NOT NULL DEFAULT now(),
            ended_at timestamptz
        );
        CREATE INDEX browser_sessions_by_token ON browser_sessions (token) WHERE ended_at IS NULL;
        CREATE INDEX browser_sessions_by_age ON browser_sessions (created_at, id);
        CREATE TABLE sign_in_links (
            digest bytea PRIMARY KEY,
            token uuid NOT NULL REFERENCES api_tokens (id) ON DELETE CASCADE,
            expires_at timestamptz NOT NULL
        )
    """)
