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
# One that was found to be behind is marked as `held`, and not looked at again until what it is behind has ended
# (`RELEASE`): however many wait for their key, they cost nothing. They are locked first, with their keys, and looked at
# by a statement of its own, so that what ended before is seen as ended, and what ends afterwards waits to release them
# until they are marked. Where one of the key is ending in a transaction that is not committed yet, it may have released
# what there was before these came: they are left as they are until the next claim.
#
# The settings hold it to the indexes, whatever the table was like when its plan was made.
CLAIM = """
CREATE FUNCTION ringfence_claim_jobs(
    a_instance uuid, a_kinds text[], a_room integer[], a_at_once integer[]
) RETURNS SETOF jobs LANGUAGE plpgsql SET enable_seqscan = off SET enable_bitmapscan = off AS $$
DECLARE
    offer record;
    room bigint;
    keyed uuid[];
    settled uuid[];
    unsettled uuid[];
    free uuid[];
    moment timestamptz;
BEGIN
    PERFORM pg_advisory_xact_lock(hashtextextended('ringfence.jobs', 0));
    moment := clock_timestamp();
    FOR offer IN SELECT * FROM unnest(a_kinds, a_room, a_at_once) AS one (kind, room, at_once) LOOP
        room := offer.room;
        IF offer.at_once IS NOT NULL THEN
            room := least(room, offer.at_once - (
                SELECT count(*) FROM jobs WHERE kind = offer.kind AND status = 'running'));
        END IF;
        CONTINUE WHEN room <= 0;
        free := '{}';
        unsettled := '{}';
        FOR turn IN 1..5 LOOP
            SELECT array_agg(id) INTO keyed FROM (
                SELECT id FROM jobs
                 WHERE kind = offer.kind AND status = 'waiting' AND NOT held AND key IS NOT NULL
                   AND due_at <= moment AND id <> ALL(free) AND id <> ALL(unsettled)
                 ORDER BY due_at, number LIMIT room + 100 FOR UPDATE SKIP LOCKED) AS found;
            EXIT WHEN keyed IS NULL;
            SELECT coalesce(array_agg(id), '{}') INTO settled FROM jobs
             WHERE id = ANY(keyed) AND pg_try_advisory_xact_lock(ringfence_key_of_jobs(plugin, key));
            unsettled := unsettled || array(SELECT one FROM unnest(keyed) AS one WHERE one <> ALL(settled));
            WITH behind AS (
                UPDATE jobs AS job SET held = true
                 WHERE id = ANY(settled) AND ringfence_job_is_behind(plugin, key, first_due_at, number) RETURNING id)
            SELECT free || array_agg(one) INTO free FROM unnest(settled) AS one
             WHERE one NOT IN (SELECT id FROM behind);
            EXIT WHEN cardinality(free) >= room;
            IF turn = 5 THEN
                -- There may be more, but not in one go: this is done with the fleet's lock held.
                PERFORM pg_notify('ringfence_jobs', '');
            END IF;
        END LOOP;
        RETURN QUERY
            WITH keyless AS (
                SELECT id, due_at, number FROM jobs
                 WHERE kind = offer.kind AND status = 'waiting' AND key IS NULL AND due_at <= moment
                 ORDER BY due_at, number LIMIT room FOR UPDATE SKIP LOCKED),
            candidates AS (
                SELECT id, due_at, number FROM keyless
                UNION ALL SELECT id, due_at, number FROM jobs WHERE id = ANY(free)),
            next AS (SELECT id FROM candidates ORDER BY due_at, number LIMIT room)
            UPDATE jobs AS job
               SET status = 'running', attempts = job.attempts + 1, instance = a_instance,
                   begun_at = clock_timestamp(), progress = NULL
              FROM next WHERE job.id = next.id
            RETURNING job.*;
    END LOOP;
END $$
"""
KEY = """
CREATE FUNCTION ringfence_key_of_jobs(a_plugin text, a_key text) RETURNS bigint LANGUAGE sql IMMUTABLE AS $$
    SELECT hashtextextended('ringfence.jobs/' || a_plugin || '/' || a_key, 0)
$$
"""
BEHIND = """
CREATE FUNCTION ringfence_job_is_behind(a_plugin text, a_key text, a_first_due_at timestamptz, a_number bigint)
RETURNS boolean LANGUAGE sql STABLE AS $$
    SELECT EXISTS (SELECT FROM jobs WHERE plugin = a_plugin AND key = a_key AND status = 'running')
        OR EXISTS (SELECT FROM jobs WHERE plugin = a_plugin AND key = a_key AND status = 'waiting'
                      AND (first_due_at, number) < (a_first_due_at, a_number))
$$
"""
# Also where it is not marked: it may just be about to be, by one who cannot see yet that this one has ended.
RELEASE = """
CREATE FUNCTION ringfence_release_job() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_advisory_xact_lock_shared(ringfence_key_of_jobs(OLD.plugin, OLD.key));
    UPDATE jobs SET held = false WHERE id = (
        SELECT id FROM jobs WHERE plugin = OLD.plugin AND key = OLD.key AND status = 'waiting'
         ORDER BY first_due_at, number LIMIT 1);
    RETURN NULL;
END $$
"""
RELEASED = """
CREATE TRIGGER jobs_release AFTER UPDATE OF status ON jobs FOR EACH ROW
WHEN (OLD.key IS NOT NULL AND OLD.status IN ('waiting', 'running') AND NEW.status NOT IN ('waiting', 'running'))
EXECUTE FUNCTION ringfence_release_job()
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
            held boolean NOT NULL DEFAULT false,
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
    op.execute(
        "CREATE INDEX jobs_due ON jobs (kind, due_at, number) WHERE status = 'waiting' AND key IS NULL"
    )
    op.execute("""
        CREATE INDEX jobs_due_keyed ON jobs (kind, due_at, number)
         WHERE status = 'waiting' AND NOT held AND key IS NOT NULL
    """)
    op.execute("CREATE INDEX jobs_running ON jobs (kind, instance) WHERE status = 'running'")
    op.execute("CREATE UNIQUE INDEX jobs_number ON jobs (number)")
    op.execute("CREATE INDEX jobs_failed ON jobs (number) WHERE status = 'failed'")
    op.execute("CREATE INDEX jobs_ended ON jobs (ended_at) WHERE ended_at IS NOT NULL")
    # Who does jobs, and of which kinds. The time is the database's: hosts' clocks differ. `marked`: it held the lock of
    # its name then, in a session that ends with it.
    op.execute("""
        CREATE TABLE job_workers (
            instance uuid PRIMARY KEY,
            kinds text[] NOT NULL,
            marked boolean NOT NULL DEFAULT false,
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
    for statement in (KEY, BEHIND, CLAIM, RELEASE, RELEASED):
        op.execute(statement)
