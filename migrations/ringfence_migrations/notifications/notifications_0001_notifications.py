"""Who is told of what, what happened, and the messages."""

from alembic import op

revision = "notifications_0001"
down_revision = None
branch_labels = ("notifications",)
depends_on = None


def upgrade() -> None:
    """Create the tables."""
    # The address is not here: the secrets plugin keeps it, encrypted. `secret_names` are those that it refers to.
    op.execute("""
        CREATE TABLE notifications_channels (
            name text PRIMARY KEY,
            kind text NOT NULL,
            secret_names text[] NOT NULL,
            settings jsonb NOT NULL,
            allowance_left double precision,
            allowance_at timestamptz,
            created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
            updated_at timestamptz NOT NULL DEFAULT clock_timestamp(),
            updated_by text NOT NULL,
            sent_at timestamptz,
            failed_at timestamptz,
            error text
        )
    """)
    op.execute("""
        CREATE TABLE notifications_routes (
            name text PRIMARY KEY,
            definition jsonb NOT NULL,
            updated_at timestamptz NOT NULL DEFAULT clock_timestamp(),
            updated_by text NOT NULL
        )
    """)
    # An incident is known by its route and its key; one that begins again is the same.
    op.execute("""
        CREATE TABLE notifications_incidents (
            id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
            route text NOT NULL,
            key text[] NOT NULL,
            severity text NOT NULL,
            title text NOT NULL,
            lasts boolean NOT NULL,
            events bigint NOT NULL,
            began_at timestamptz NOT NULL,
            changed_at timestamptz NOT NULL,
            acknowledged_at timestamptz,
            acknowledged_by text,
            UNIQUE (route, key)
        )
    """)
    op.execute("CREATE INDEX notifications_incidents_lasting ON notifications_incidents (id) WHERE lasts")
    op.execute("CREATE INDEX notifications_incidents_changed ON notifications_incidents (changed_at)")
    # What a channel knows of an incident: `state` is the telling, whose due time and group stand apart for the indexes.
    op.execute("""
        CREATE TABLE notifications_tellings (
            channel text NOT NULL REFERENCES notifications_channels ON DELETE CASCADE,
            incident bigint NOT NULL REFERENCES notifications_incidents ON DELETE CASCADE,
            route text NOT NULL,
            group_key text NOT NULL,
            state jsonb NOT NULL,
            due_at timestamptz,
            gathers boolean NOT NULL,
            PRIMARY KEY (channel, incident)
        )
    """)
    op.execute("CREATE INDEX notifications_tellings_incident ON notifications_tellings (incident)")
    op.execute("""
        CREATE INDEX notifications_tellings_due ON notifications_tellings (channel, due_at) WHERE due_at IS NOT NULL
    """)
    op.execute("""
        CREATE INDEX notifications_tellings_gathers ON notifications_tellings (channel, route, group_key) WHERE gathers
    """)
    # `begun` counts the attempts that were begun, `ended` those of which the outcome is known: where they differ, an
    # instance died in between, and the message may have been sent twice.
    op.execute("""
        CREATE TABLE notifications_messages (
            id uuid PRIMARY KEY,
            channel text NOT NULL,
            route text,
            kind text,
            severity text NOT NULL,
            title text NOT NULL,
            text text NOT NULL,
            link text,
            held text,
            told jsonb NOT NULL,
            events bigint NOT NULL,
            status text NOT NULL DEFAULT 'pending',
            begun integer NOT NULL DEFAULT 0,
            ended integer NOT NULL DEFAULT 0,
            next_at timestamptz NOT NULL,
            claimed_until timestamptz,
            created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
            sent_at timestamptz,
            error text
        )
    """)
    op.execute("""
        CREATE INDEX notifications_messages_pending ON notifications_messages (channel, next_at)
         WHERE status = 'pending'
    """)
    op.execute("CREATE INDEX notifications_messages_created ON notifications_messages (created_at, id)")
    # Events that are in no message, by day, and why.
    op.execute("""
        CREATE TABLE notifications_suppressed (
            channel text NOT NULL,
            route text NOT NULL,
            why text NOT NULL,
            day date NOT NULL,
            events bigint NOT NULL,
            PRIMARY KEY (channel, route, why, day)
        )
    """)
