"""Alembic migrations, one version directory and branch label per plugin."""
