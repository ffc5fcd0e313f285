"""Jobs: work that is to be done later, once, by whichever instance comes to it; and the timetables that ask for it."""

from alembic import op

revision = "host_0010"
down_revision = "host_0009"
branch_labels = None
depends_on = None

# One claim at a time in the whole fleet: only so can the jobs of a kind that run everywhere be counted, and those of a
# key be taken in their order. Each statement of a function sees what was committed before it began, so what is read
# after the lock is what the last one who held it has written. The lock lasts for this one exchange: nobody holds it
# who waits for the network.
#
# A job is behind another one of its key that is running, or that waits and comes before it. What comes before is told
# by when it was first due, so that one that is to be tried again keeps its place, and one for later is in nobody's way.
CLAIM = """
CREATE FUNCTION ringfence_claim_jobs(
    a_instance uuid, a_kinds text[], a_room integer[], a_at_once integer[]
) RETURNS SETOF jobs LANGUAGE plpgsql AS $$
DECLARE
    offer record;
    room bigint;
BEGIN
    PERFORM pg_advisory_xact_lock(hashtextextended('ringfence.jobs', 0));
    FOR offer IN SELECT * FROM unnest(a_kinds, a_room, a_at_once) AS one (kind, room, at_once) LOOP
        room := offer.room;
        IF offer.at_once IS NOT NULL THEN
            room := least(room, offer.at_once - (
                SELECT count(*) FROM jobs WHERE kind = offer.kind AND status = 'running'));
        END IF;
        CONTINUE WHEN room <= 0;
        RETURN QUERY
            WITH next AS (
                SELECT job.id FROM jobs AS job
                 WHERE job.kind = offer.kind AND job.status = 'waiting' AND job.due_at <= clock_timestamp()
                   AND (job.key IS NULL OR NOT EXISTS (
                        SELECT FROM jobs AS before
                         WHERE before.plugin = job.plugin AND before.key = job.key
                           AND (before.status = 'running'
                                OR before.status = 'waiting'
                                   AND (before.first_due_at, before.number) < (job.first_due_at, job.number))))
                 ORDER BY job.due_at, job.number LIMIT room
                   FOR UPDATE SKIP LOCKED)
            UPDATE jobs AS job
               SET status = 'running', attempts = job.attempts + 1, instance = a_instance,
                   begun_at = clock_timestamp(), progress = NULL
              FROM next WHERE job.id = next.id
            RETURNING job.*;
    END LOOP;
END $$
"""


def upgrade() -> None:
    """Create the tables of jobs, of those who do them, and of timetables."""
    # `kind` is "<plugin>.<name>". `attempts` counts how often it was begun, `failures` how often its handler has
    # failed, `losses` how often its instance was lost in the middle of it. `number` is the order of enqueueing.
    op.execute("""
        CREATE TABLE jobs (
            id uuid PRIMARY KEY,
            number bigint GENERATED ALWAYS AS IDENTITY,
            plugin text NOT NULL,
            kind text NOT NULL,
            payload jsonb NOT NULL,
            status text NOT NULL DEFAULT 'waiting'
                CHECK (status IN ('waiting', 'running', 'succeeded', 'failed', 'cancelled')),
            key text,
            single text,
            timetable text,
            actor text,
            enqueued_at timestamptz NOT NULL DEFAULT clock_timestamp(),
            first_due_at timestamptz NOT NULL,
            due_at timestamptz NOT NULL,
            attempts integer NOT NULL DEFAULT 0,
            failures integer NOT NULL DEFAULT 0,
            losses integer NOT NULL DEFAULT 0,
            instance uuid,
            begun_at timestamptz,
            ended_at timestamptz,
            cancel boolean NOT NULL DEFAULT false,
            progress jsonb,
            error text
        )
    """)
    op.execute("CREATE UNIQUE INDEX jobs_single ON jobs (kind, single) WHERE status = 'waiting'")
    op.execute("CREATE UNIQUE INDEX jobs_key_running ON jobs (plugin, key) WHERE status = 'running'")
    op.execute("""
        CREATE INDEX jobs_key_waiting ON jobs (plugin, key, first_due_at, number)
         WHERE status = 'waiting' AND key IS NOT NULL
    """)
    op.execute("CREATE INDEX jobs_due ON jobs (kind, due_at, number) WHERE status = 'waiting'")
    op.execute("CREATE INDEX jobs_running ON jobs (kind, instance) WHERE status = 'running'")
    op.execute("CREATE UNIQUE INDEX jobs_number ON jobs (number)")
    op.execute("CREATE INDEX jobs_ended ON jobs (ended_at) WHERE ended_at IS NOT NULL")
    # Who does jobs, and of which kinds. The time is the database's: hosts' clocks differ.
    op.execute("""
        CREATE TABLE job_workers (
            instance uuid PRIMARY KEY,
            kinds text[] NOT NULL,
            seen_at timestamptz NOT NULL
        )
    """)
    # Those that are `declared` are named by the plugin at each start, and forgotten when they are not any more.
    op.execute("""
        CREATE TABLE timetables (
            plugin text NOT NULL,
            name text NOT NULL,
            kind text NOT NULL,
            payload jsonb NOT NULL,
            schedule text NOT NULL,
            zone text NOT NULL,
            declared boolean NOT NULL,
            next_at timestamptz NOT NULL,
            last_at timestamptz,
            PRIMARY KEY (plugin, name)
        )
    """)
    op.execute("CREATE INDEX timetables_next ON timetables (next_at)")
    op.execute(CLAIM)
