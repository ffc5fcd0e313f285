"""The automations as they are now; what they were is in the event log."""

from alembic import op

revision = "automations_0001"
down_revision = None
branch_labels = ("automations",)
depends_on = None


def upgrade() -> None:
    """Create the table of definitions."""
    # `position` is that of the event which told of the revision.
    # `token` is the id of the API token whose rules the runs have, and `acts_for` what it was called.
    op.execute("""
        CREATE TABLE automations_automations (
            name text PRIMARY KEY,
            revision bigint NOT NULL,
            enabled boolean NOT NULL,
            definition jsonb NOT NULL,
            acts_for text NOT NULL,
            token text NOT NULL,
            position bigint NOT NULL,
            created_at timestamptz NOT NULL,
            created_by text NOT NULL,
            updated_at timestamptz NOT NULL,
            updated_by text NOT NULL
        )
    """)
