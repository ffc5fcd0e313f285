"""Where a declared object stands: the file, line and column of its document."""

from alembic import op

revision = "host_0014"
down_revision = "host_0013"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the column; what was applied before has none until it is applied again."""
    op.execute("ALTER TABLE declared_objects ADD COLUMN place text")
