"""Which places are to report on which checks, and the settled state of each."""

from alembic import op

revision = "health_checks_0006"
down_revision = "health_checks_0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Have the row of a place's newest result say whether, and how soon, another one is expected there.

    A place that has not run yet has a row too, whose result is older than all others: `-infinity`, which older releases
    show as the beginning of 2000. `placed_at` is null where the check is not placed (any more), and `grace_seconds`
    where no result is expected. Lists show the worst by what holds now, which no index can know.
    """
    op.execute("""
        ALTER TABLE health_checks_latest
          ADD COLUMN placed_at timestamptz,
          ADD COLUMN grace_seconds double precision,
          ADD COLUMN place_name text,
          ADD COLUMN place_labels text[] NOT NULL DEFAULT '{}',
          ADD COLUMN settling jsonb
    """)
    op.execute("DROP INDEX health_checks_latest_worst")
    op.execute("CREATE INDEX health_checks_latest_place ON health_checks_latest (ran_on)")
