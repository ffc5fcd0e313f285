"""What goes on elsewhere for steps, and which secrets a run was given: their names, and never a value."""

from alembic import op

revision = "automations_0003"
down_revision = "automations_0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create the tables of steps on satellites, and of the secrets of runs. They go with their run."""
    op.execute("""
        CREATE TABLE automations_run_secrets (
            run uuid NOT NULL REFERENCES automations_runs ON DELETE CASCADE,
            name text NOT NULL,
            PRIMARY KEY (run, name)
        )
    """)
    op.execute("""
        CREATE TABLE automations_elsewhere (
            run_id uuid NOT NULL REFERENCES automations_runs ON DELETE CASCADE,
            path text NOT NULL,
            attempt integer NOT NULL,
            automation text NOT NULL,
            revision bigint NOT NULL,
            frame text NOT NULL,
            secrets text NOT NULL,
            selected boolean NOT NULL,
            at_once integer NOT NULL,
            may_fail integer NOT NULL,
            deliver_within double precision NOT NULL,
            deadline timestamptz NOT NULL,
            cancelled boolean NOT NULL DEFAULT false,
            ended boolean NOT NULL DEFAULT false,
            PRIMARY KEY (run_id, path, attempt)
        )
    """)
    op.execute("""
        CREATE TABLE automations_places (
            run_id uuid NOT NULL,
            path text NOT NULL,
            attempt integer NOT NULL,
            place integer NOT NULL,
            satellite_id uuid NOT NULL,
            name text NOT NULL,
            satellite_run uuid NOT NULL UNIQUE,
            state text NOT NULL,
            artifact text,
            message text NOT NULL DEFAULT '',
            PRIMARY KEY (run_id, path, attempt, place),
            FOREIGN KEY (run_id, path, attempt) REFERENCES automations_elsewhere ON DELETE CASCADE
        )
    """)
    op.execute(
        "CREATE INDEX automations_places_asked ON automations_places (satellite_id) WHERE state = 'asked'"
    )
