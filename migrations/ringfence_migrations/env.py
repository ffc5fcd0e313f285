"""How alembic runs a plugin's migrations: on the connection that the host hands it, in one transaction.

Without a connection it writes down their SQL, and runs nothing.
"""

from alembic import context

context.configure(
    connection=context.config.attributes["connection"],
    dialect_name="postgresql",
    version_table=context.config.attributes["version_table"],
    transaction_per_migration=False,
)
with context.begin_transaction():
    context.run_migrations()
