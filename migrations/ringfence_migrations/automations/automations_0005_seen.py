"""What pages look for: the last run of each automation, those that failed, refused steps, and steps on a satellite."""

from alembic import op

revision = "automations_0005"
down_revision = "automations_0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create the indexes, and give each place a number, by which the newest on a satellite are found."""
    op.execute(
        "CREATE INDEX automations_runs_last ON automations_runs (automation, number)"
        " WHERE status IN ('succeeded', 'failed', 'cancelled')"
    )
    op.execute("CREATE INDEX automations_runs_failed ON automations_runs (number) WHERE status = 'failed'")
    op.execute(
        "CREATE INDEX automations_steps_refused ON automations_steps (ended_at)"
        " WHERE status = 'failed' AND error LIKE 'refused by the sandbox:%'"
    )
    op.execute("ALTER TABLE automations_places ADD number bigint GENERATED ALWAYS AS IDENTITY")
    op.execute("CREATE INDEX automations_places_of_one ON automations_places (satellite_id, number)")
