"""Which release each instance is of."""

from alembic import op

revision = "host_0014"
down_revision = "host_0013"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the column. Instances of older releases leave it empty."""
    op.execute("ALTER TABLE event_instances ADD COLUMN release text")
