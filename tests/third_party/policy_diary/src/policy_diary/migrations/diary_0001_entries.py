"""The entries."""

from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    op.execute("""
        CREATE TABLE policy_diary_entries (
            id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
            author text NOT NULL,
            text text NOT NULL
        )
    """)
