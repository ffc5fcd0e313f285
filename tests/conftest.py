"""Fixtures that every test may use."""

from __future__ import annotations

import pytest

pytest_plugins = ["ringfence.testing"]


@pytest.fixture
def fail_for_missing_primitive(request: pytest.FixtureRequest) -> None:
    """Turn what would have been a skip into a failure (RINGFENCE_REQUIRE_ALL=1)."""
    pytest.fail(f"{request.node.nodeid} needs a host primitive that this machine lacks, and all are required")
