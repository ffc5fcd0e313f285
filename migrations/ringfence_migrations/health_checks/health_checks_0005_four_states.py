"""A check that could not look is unknown, which is a state of its own."""

from alembic import op

revision = "health_checks_0005"
down_revision = "health_checks_0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Let results be unknown.

    What is stored already was held to the narrower rule, so it need not be read again.
    """
    op.execute("ALTER TABLE health_checks_results DROP CONSTRAINT health_checks_results_status_check")
    op.execute("""
        ALTER TABLE health_checks_results ADD CONSTRAINT health_checks_results_status_check
          CHECK (status IN ('healthy', 'degraded', 'unhealthy', 'unknown')) NOT VALID
    """)
