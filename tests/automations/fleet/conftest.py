"""A server of its own for the test that restarts it."""

from __future__ import annotations

from tests.jobs.conftest import own_server

__all__ = ["own_server"]
