"""Runs of automations, their steps, and what those have written."""

from alembic import op

revision = "automations_0002"
down_revision = "automations_0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create the tables of runs.

    They name their automation, and do not refer to it: a run goes on, and is shown, when its automation is deleted.
    """
    op.execute("""
        CREATE TABLE automations_runs (
            id uuid PRIMARY KEY,
            number bigint GENERATED ALWAYS AS IDENTITY,
            automation text NOT NULL,
            revision bigint NOT NULL,
            mode text NOT NULL,
            most integer NOT NULL,
            key text NOT NULL,
            once_key text,
            depth integer NOT NULL DEFAULT 0,
            status text NOT NULL
                CHECK (status IN ('queued', 'running', 'succeeded', 'failed', 'cancelled', 'skipped')),
            message text,
            trigger text NOT NULL,
            event text NOT NULL,
            inputs text NOT NULL,
            started_by text,
            created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
            started_at timestamptz,
            ended_at timestamptz,
            closing text,
            cancelled_by text,
            cancelled_at timestamptz,
            wake_at timestamptz,
            artifact_bytes bigint NOT NULL DEFAULT 0,
            output_bytes bigint NOT NULL DEFAULT 0,
            CHECK ((status IN ('queued', 'running')) = (ended_at IS NULL))
        )
    """)
    op.execute(
        "CREATE UNIQUE INDEX automations_runs_once ON automations_runs (automation, once_key)"
        " WHERE once_key IS NOT NULL"
    )
    op.execute("CREATE UNIQUE INDEX automations_runs_newest ON automations_runs (number)")
    # Small, since rows come in the order of time: for how many there were of late.
    op.execute("CREATE INDEX automations_runs_created ON automations_runs USING brin (created_at)")
    op.execute("CREATE INDEX automations_runs_of_one ON automations_runs (automation, number)")
    op.execute(
        "CREATE INDEX automations_runs_under_way ON automations_runs (automation, key, number)"
        " WHERE status IN ('queued', 'running')"
    )
    op.execute(
        "CREATE INDEX automations_runs_ended ON automations_runs (ended_at) WHERE ended_at IS NOT NULL"
    )
    op.execute("""
        CREATE TABLE automations_steps (
            run_id uuid NOT NULL REFERENCES automations_runs ON DELETE CASCADE,
            path text NOT NULL,
            attempt integer NOT NULL,
            number bigint GENERATED ALWAYS AS IDENTITY,
            kind text NOT NULL,
            status text NOT NULL CHECK (status IN (
                'running', 'waiting', 'succeeded', 'failed', 'skipped', 'cancelled', 'interrupted')),
            begun_at timestamptz NOT NULL,
            started_at timestamptz,
            ended_at timestamptz,
            due_at timestamptz,
            instance uuid,
            job uuid,
            hook text,
            heard_after bigint,
            failures integer NOT NULL DEFAULT 0,
            interruptions integer NOT NULL DEFAULT 0,
            state text NOT NULL,
            artifact text,
            error text,
            ending text,
            ending_at timestamptz,
            late text,
            PRIMARY KEY (run_id, path, attempt),
            CHECK ((status IN ('running', 'waiting')) = (ended_at IS NULL))
        )
    """)
    op.execute(
        "CREATE INDEX automations_steps_waits ON automations_steps (hook)"
        " WHERE status = 'waiting' AND hook IS NOT NULL"
    )
    op.execute(
        "CREATE INDEX automations_steps_not_started ON automations_steps (begun_at)"
        " WHERE status = 'running' AND started_at IS NULL"
    )
    op.execute("""
        CREATE TABLE automations_output (
            run_id uuid NOT NULL REFERENCES automations_runs ON DELETE CASCADE,
            number bigint GENERATED ALWAYS AS IDENTITY,
            path text NOT NULL,
            attempt integer NOT NULL,
            stream text NOT NULL,
            text text NOT NULL,
            written_at timestamptz NOT NULL DEFAULT clock_timestamp(),
            PRIMARY KEY (run_id, number)
        )
    """)
