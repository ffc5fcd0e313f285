"""Managing satellites no longer includes seeing them, placing them and running scripts on them."""

from alembic import op

revision = "satellite_0004"
down_revision = "satellite_0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Have tokens that were made before keep what they could do."""
    op.execute("""
        UPDATE api_tokens
           SET rules = ARRAY(SELECT DISTINCT unnest(rules || ARRAY[
                   'satellite.satellite.read', 'satellite.satellite.place', 'satellite.script.run']) ORDER BY 1)
         WHERE 'satellite.satellite.manage' = ANY(rules)
    """)
