"""What runs have written so far."""

from alembic import op

revision = "satellite_0006"
down_revision = "satellite_0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the table: of a run that has a result, nothing is in it any more."""
    op.execute("ALTER TABLE satellite_runs ADD COLUMN output_bytes bigint NOT NULL DEFAULT 0")
    op.execute("""
        CREATE TABLE satellite_run_output (
            run_id uuid NOT NULL REFERENCES satellite_runs ON DELETE CASCADE,
            sequence bigint NOT NULL,
            stream text NOT NULL,
            text text NOT NULL,
            PRIMARY KEY (run_id, sequence)
        )
    """)
