"""Which span an event or a job was made in, by W3C Trace Context."""

from alembic import op

revision = "host_0016"
down_revision = "host_0015"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the columns. Each row takes what its transaction says, if it says something; so no function has to change.

    The default is the same for all rows that are there, so that none of them is written anew.
    """
    for table in ("events", "jobs"):
        op.execute(f"""
            ALTER TABLE {table} ADD COLUMN traceparent text
                DEFAULT nullif(current_setting('ringfence.traceparent', true), '')
        """)
