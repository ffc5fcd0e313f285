"""Runs are kept from the moment that they are asked for until a day after their end."""

from alembic import op

revision = "satellite_0005"
down_revision = "satellite_0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Put the table of runs in the place of the mailbox between instances, in which nothing was kept.

    An instance of an older release that still runs beside this one fails at the runs of the others, which wait until
    their satellite comes to one that knows this table.
    """
    op.execute("DROP TABLE satellite_runs")
    op.execute("""
        CREATE TABLE satellite_runs (
            id uuid PRIMARY KEY,
            number bigint GENERATED ALWAYS AS IDENTITY,
            satellite_id uuid NOT NULL REFERENCES satellite_satellites ON DELETE CASCADE,
            state text NOT NULL DEFAULT 'queued' CHECK (state IN ('queued', 'delivered', 'running', 'ended')),
            outcome text CHECK (outcome IN ('finished', 'cancelled', 'lost', 'refused', 'expired')),
            reason text,
            kind text NOT NULL,
            timeout_ms bigint NOT NULL,
            request text,
            asked_by text,
            asked_at timestamptz NOT NULL DEFAULT now(),
            deliver_until timestamptz NOT NULL,
            connection uuid,
            process text,
            delivered_at timestamptz,
            started_at timestamptz,
            answer_until timestamptz,
            cancelled_by text,
            cancelled_at timestamptz,
            told_to_stop uuid,
            ended_at timestamptz,
            result text,
            CHECK ((state = 'ended') = (outcome IS NOT NULL)),
            CHECK ((state = 'ended') = (ended_at IS NOT NULL)),
            CHECK (state <> 'ended' OR request IS NULL)
        )
    """)
    op.execute(
        "CREATE INDEX satellite_runs_unfinished ON satellite_runs (satellite_id) WHERE state <> 'ended'"
    )
    op.execute("CREATE INDEX satellite_runs_ended ON satellite_runs (ended_at) WHERE state = 'ended'")
    op.execute("CREATE INDEX satellite_runs_newest ON satellite_runs (number)")
    op.execute("CREATE INDEX satellite_runs_of_one ON satellite_runs (satellite_id, number)")
