"""How far each instance has written down what it heard of satellites, so that a silence is not taken for theirs."""

from alembic import op

revision = "satellite_0003"
down_revision = "satellite_0002"
branch_labels = None
depends_on = None

HEARD_UNTIL = """
CREATE FUNCTION satellite_heard_until(OUT heard_until timestamptz, OUT steady_since timestamptz)
STABLE LANGUAGE sql AS $$
    WITH steady AS (
        SELECT EXISTS (
            SELECT FROM satellite_listeners AS one
             WHERE one.written_at > clock_timestamp() - interval '5 seconds'
               AND one.steady_since < clock_timestamp() - interval '15 seconds') AS there)
    SELECT coalesce(min(listener.heard_until), now()), coalesce(min(listener.steady_since), now())
      FROM satellite_listeners AS listener, steady
     WHERE NOT steady.there OR listener.written_at > clock_timestamp() - interval '15 seconds'
$$
"""


def upgrade() -> None:
    """Make the table, and the function that says up to when the fleet knows who was heard.

    An instance that does not write counts as gone once another has written for longer than that without a break: while
    nobody could write, nobody is gone. See the satellite plugin's `liveness`.
    """
    op.execute("""
        CREATE TABLE satellite_listeners (
            instance uuid PRIMARY KEY,
            heard_until timestamptz NOT NULL,
            steady_since timestamptz NOT NULL,
            written_at timestamptz NOT NULL)
    """)
    op.execute(HEARD_UNTIL)
