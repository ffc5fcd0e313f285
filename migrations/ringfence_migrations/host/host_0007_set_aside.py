"""What could not be written, kept with its origin, so that what was to be written with it goes on."""

from alembic import op

revision = "host_0007"
down_revision = "host_0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the table. `content` is JSON in ASCII, cut off, as text: what is kept here is what fits nowhere else."""
    op.execute("""
        CREATE TABLE set_aside (
            id bigserial PRIMARY KEY,
            plugin text NOT NULL,
            origin text NOT NULL,
            what text NOT NULL,
            error text NOT NULL,
            content text NOT NULL,
            set_aside_at timestamptz NOT NULL DEFAULT clock_timestamp())
    """)
    op.execute("CREATE INDEX set_aside_origin ON set_aside (plugin, origin, id)")
    op.execute("CREATE INDEX set_aside_time ON set_aside (set_aside_at)")
