"""Checks, their results, and the newest result of each."""

from alembic import op

revision = "health_checks_0001"
down_revision = None
branch_labels = ("health-checks",)
depends_on = None


def upgrade() -> None:
    """Create the health-checks plugin's tables."""
    op.execute("""
        CREATE TABLE health_checks_checks (
            id uuid PRIMARY KEY,
            name text NOT NULL UNIQUE,
            definition jsonb NOT NULL,
            created_at timestamptz NOT NULL DEFAULT now(),
            created_by text NOT NULL,
            updated_at timestamptz NOT NULL DEFAULT now(),
            updated_by text NOT NULL
        )
    """)
    # A result's id is given by whoever ran the check, and so is unique there: a satellite that sends a result again is
    # recognised by it, and one that makes up an id can only get in its own way.
    op.execute("""
        CREATE TABLE health_checks_results (
            ran_on text NOT NULL,
            id text NOT NULL,
            check_id uuid NOT NULL REFERENCES health_checks_checks ON DELETE CASCADE,
            system text NOT NULL,
            status text NOT NULL CHECK (status IN ('healthy', 'degraded', 'unhealthy')),
            latency_ms double precision,
            message text NOT NULL,
            metrics jsonb NOT NULL,
            detail jsonb NOT NULL,
            executed_at timestamptz NOT NULL,
            received_at timestamptz NOT NULL DEFAULT clock_timestamp(),
            PRIMARY KEY (ran_on, id)
        )
    """)
    op.execute(
        "CREATE INDEX health_checks_results_newest ON health_checks_results (check_id, executed_at DESC)"
    )
    op.execute("CREATE INDEX health_checks_results_age ON health_checks_results (received_at)")
    # So that a list of checks costs no search through all that they have ever said.
    op.execute("""
        CREATE TABLE health_checks_latest (
            check_id uuid NOT NULL REFERENCES health_checks_checks ON DELETE CASCADE,
            ran_on text NOT NULL,
            status text NOT NULL,
            latency_ms double precision,
            message text NOT NULL,
            executed_at timestamptz NOT NULL,
            PRIMARY KEY (check_id, ran_on)
        )
    """)
