"""Which versions of Python a script asks for in its own text."""

from alembic import op

revision = "script_packages_0002"
down_revision = "script_packages_0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Keep it beside what such a set is made of."""
    op.execute("ALTER TABLE script_packages_sets ADD COLUMN own_requires_python text")
