"""Which release each instance is of."""

from alembic import op

revision = "host_0015"
down_revision = "host_0014"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the column. Instances of older releases leave it empty."""
    op.execute("ALTER TABLE event_instances ADD COLUMN release text")
