"""Lists of checks and results that are as quick for many as for few."""

from alembic import op

revision = "health_checks_0003"
down_revision = "health_checks_0002"
branch_labels = None
depends_on = None

# `convert_to` counts as depending on more than its arguments, as other encodings than UTF-8 may be redefined.
OUTLINE = """
CREATE FUNCTION health_checks_outline(a_definition jsonb) RETURNS jsonb IMMUTABLE LANGUAGE sql AS $$
    SELECT (a_definition - 'script') || jsonb_build_object(
        'scriptSha256', encode(sha256(convert_to(coalesce(a_definition ->> 'script', ''), 'UTF8')), 'hex'))
$$
"""


def upgrade() -> None:
    """Keep each check's outline beside its definition, and add what lists are read by.

    The database makes the outline, so that it is there of what an instance of an older release writes, too.
    """
    op.execute(OUTLINE)
    op.execute("""
        ALTER TABLE health_checks_checks
          ADD COLUMN outline jsonb NOT NULL GENERATED ALWAYS AS (health_checks_outline(definition)) STORED
    """)
    # The worst places of a check first. What changes with each result is not in it: such an update costs no index.
    op.execute("""
        CREATE INDEX health_checks_latest_worst ON health_checks_latest
            (check_id, (CASE status WHEN 'unhealthy' THEN 0 WHEN 'degraded' THEN 2 WHEN 'healthy' THEN 3 ELSE 1 END),
             ran_on)
    """)
    op.execute("""
        CREATE INDEX health_checks_results_place ON health_checks_results (check_id, ran_on, executed_at DESC)
    """)
    op.execute("""
        CREATE INDEX health_checks_results_status ON health_checks_results (check_id, status, executed_at DESC)
    """)
