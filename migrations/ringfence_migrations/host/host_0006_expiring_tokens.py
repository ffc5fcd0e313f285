"""API tokens that end by themselves."""

from alembic import op

revision = "host_0006"
down_revision = "host_0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the moment of a token's end; null is never. An instance of an older release does not look at it."""
    op.execute("ALTER TABLE api_tokens ADD COLUMN expires_at timestamptz")
