"""Objects that files declare, each with the source that has applied it."""

from alembic import op

revision = "host_0013"
down_revision = "host_0012"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the table. `object_id` is for kinds whose objects have no name of their own."""
    op.execute("""
        CREATE TABLE declared_objects (
            kind text NOT NULL,
            name text NOT NULL,
            source text NOT NULL,
            object_id text,
            hash text NOT NULL,
            applied_at timestamptz NOT NULL DEFAULT clock_timestamp(),
            applied_by text NOT NULL,
            PRIMARY KEY (kind, name)
        )
    """)
