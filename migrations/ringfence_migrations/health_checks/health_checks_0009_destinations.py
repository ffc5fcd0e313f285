"""Where checks connect to, and where they would like to."""

from alembic import op

revision = "health_checks_0009"
down_revision = "health_checks_0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the table: a row for each destination of a check in a place, counted with each result."""
    op.execute("""
        CREATE TABLE health_checks_destinations (
            check_id uuid NOT NULL REFERENCES health_checks_checks ON DELETE CASCADE,
            ran_on text NOT NULL,
            outcome text NOT NULL,
            protocol text NOT NULL,
            host text NOT NULL,
            port integer NOT NULL,
            tries bigint NOT NULL,
            runs bigint NOT NULL,
            first_at timestamptz NOT NULL,
            last_at timestamptz NOT NULL,
            PRIMARY KEY (check_id, ran_on, outcome, protocol, host, port)
        )
    """)
    # Rows are updated with each result: what changes is in no index, and pages keep room for it (a HOT update).
    op.execute("ALTER TABLE health_checks_destinations SET (fillfactor = 70)")
    op.execute("CREATE INDEX health_checks_destinations_place ON health_checks_destinations (ran_on)")
