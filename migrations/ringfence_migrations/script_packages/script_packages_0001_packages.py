"""Packages: what is allowed, the sets and their locks, the files, the platforms, and what audits have found."""

from alembic import op

revision = "script_packages_0001"
down_revision = None
branch_labels = ("script-packages",)
depends_on = None


def upgrade() -> None:
    """Create the tables of script packages."""
    op.execute("""
        CREATE TABLE script_packages_entries (
            set_name text NOT NULL,
            ecosystem text NOT NULL CHECK (ecosystem IN ('pypi', 'npm')),
            name text NOT NULL,
            extras text[] NOT NULL DEFAULT '{}',
            specifier text NOT NULL,
            reason text,
            created_at timestamptz NOT NULL DEFAULT now(),
            created_by text NOT NULL,
            PRIMARY KEY (set_name, ecosystem, name)
        )
    """)
    op.execute("""
        CREATE TABLE script_packages_locks (
            hash text PRIMARY KEY,
            document jsonb NOT NULL,
            created_at timestamptz NOT NULL DEFAULT now(),
            wanted_at timestamptz NOT NULL DEFAULT now()
        )
    """)
    # Which files a lock names, so that nothing has to be read out of documents to know what is wanted.
    op.execute("""
        CREATE TABLE script_packages_lock_files (
            lock_hash text NOT NULL REFERENCES script_packages_locks ON DELETE CASCADE,
            sha256 text NOT NULL,
            PRIMARY KEY (lock_hash, sha256)
        )
    """)
    op.execute("CREATE INDEX script_packages_lock_files_by_file ON script_packages_lock_files (sha256)")
    # `own_requirements` are those of a set that scripts ask for in their own text; others have entries. `requirements`
    # are those that the lock was made of.
    op.execute("""
        CREATE TABLE script_packages_sets (
            name text PRIMARY KEY,
            own_requirements jsonb,
            lock_hash text REFERENCES script_packages_locks,
            requirements jsonb,
            request jsonb,
            state text NOT NULL DEFAULT 'empty' CHECK (state IN ('empty', 'current', 'installing', 'failed')),
            progress jsonb,
            error jsonb,
            created_at timestamptz NOT NULL DEFAULT now(),
            updated_at timestamptz NOT NULL DEFAULT now(),
            locked_at timestamptz,
            wanted_at timestamptz NOT NULL DEFAULT now()
        )
    """)
    op.execute("CREATE INDEX script_packages_sets_by_lock ON script_packages_sets (lock_hash)")
    # A file comes in pieces, each a transaction. Those of an upload that was never finished belong to no blob.
    op.execute("""
        CREATE TABLE script_packages_uploads (
            id uuid PRIMARY KEY,
            started_at timestamptz NOT NULL DEFAULT now()
        )
    """)
    op.execute("""
        CREATE TABLE script_packages_chunks (
            upload_id uuid NOT NULL REFERENCES script_packages_uploads ON DELETE CASCADE,
            number integer NOT NULL,
            content bytea NOT NULL,
            PRIMARY KEY (upload_id, number)
        )
    """)
    # They are compressed already.
    op.execute("ALTER TABLE script_packages_chunks ALTER COLUMN content SET STORAGE EXTERNAL")
    op.execute("""
        CREATE TABLE script_packages_blobs (
            sha256 text PRIMARY KEY,
            size bigint NOT NULL,
            upload_id uuid NOT NULL UNIQUE REFERENCES script_packages_uploads,
            stored_at timestamptz NOT NULL DEFAULT now(),
            wanted_at timestamptz NOT NULL DEFAULT now()
        )
    """)
    op.execute("""
        CREATE TABLE script_packages_platforms (
            key text PRIMARY KEY,
            platform jsonb NOT NULL,
            seen_at timestamptz NOT NULL DEFAULT now()
        )
    """)
    op.execute("""
        CREATE TABLE script_packages_audits (
            set_name text PRIMARY KEY REFERENCES script_packages_sets ON DELETE CASCADE,
            lock_hash text NOT NULL,
            audited_at timestamptz NOT NULL DEFAULT now(),
            problems jsonb NOT NULL
        )
    """)
    op.execute("""
        CREATE TABLE script_packages_findings (
            set_name text NOT NULL REFERENCES script_packages_sets ON DELETE CASCADE,
            ecosystem text NOT NULL,
            package text NOT NULL,
            version text NOT NULL,
            advisory text NOT NULL,
            summary text NOT NULL,
            url text,
            severity text,
            fixed_in jsonb NOT NULL,
            found_at timestamptz NOT NULL DEFAULT now(),
            PRIMARY KEY (set_name, ecosystem, package, version, advisory)
        )
    """)
