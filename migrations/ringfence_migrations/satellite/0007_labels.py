"""Labels with values, and vars."""

from alembic import op

revision = "satellite_0007"
down_revision = "satellite_0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the columns.

    Labels without a value are tags, which earlier releases go on reading and writing. `carried` is what rules and
    checks find by tags, worked out by the database, also when an earlier release writes tags.
    """
    op.execute("""
        CREATE FUNCTION satellite_carried(tags text[], labels jsonb) RETURNS text[] LANGUAGE sql IMMUTABLE
            AS $$ SELECT tags || ARRAY(SELECT key || '=' || value FROM jsonb_each_text(labels)) $$
    """)
    op.execute("""
        ALTER TABLE satellite_satellites
            ADD COLUMN labels jsonb NOT NULL DEFAULT '{}',
            ADD COLUMN vars jsonb NOT NULL DEFAULT '{}'
    """)
    op.execute("""
        ALTER TABLE satellite_satellites
            ADD COLUMN carried text[] GENERATED ALWAYS AS (satellite_carried(tags, labels)) STORED
    """)
    op.execute("DROP INDEX satellite_satellites_tags")
    op.execute("CREATE INDEX satellite_satellites_carried ON satellite_satellites USING gin (carried)")
