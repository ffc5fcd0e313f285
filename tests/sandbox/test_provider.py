"""The provider: one per process, and fail-closed without it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from ringfence.sandbox import (
    FAIL_CLOSED_POLICY,
    PolicySnapshot,
    PolicySource,
    ProviderAlreadySet,
    clear_policy_provider,
    current_policy,
    set_policy_provider,
)


@pytest.fixture(autouse=True)
def no_provider_left_behind() -> Iterator[None]:
    clear_policy_provider()
    yield
    clear_policy_provider()


async def default_provider() -> PolicySnapshot:
    return PolicySnapshot.default()


async def test_without_a_provider_the_policy_is_fail_closed_and_says_why() -> None:
    snapshot = await current_policy()
    assert snapshot.policy == FAIL_CLOSED_POLICY
    assert snapshot.source is PolicySource.FAIL_CLOSED
    assert "no policy provider" in (snapshot.reason or "")


async def test_a_provider_that_raises_makes_it_fail_closed_with_the_cause() -> None:
    async def broken() -> PolicySnapshot:
        raise ConnectionError("database is gone")

    set_policy_provider(broken)
    snapshot = await current_policy()
    assert snapshot.policy == FAIL_CLOSED_POLICY
    assert "ConnectionError: database is gone" in (snapshot.reason or "")


async def test_the_provider_answers_until_it_is_cleared() -> None:
    set_policy_provider(default_provider)
    assert (await current_policy()).source is PolicySource.DEFAULT
    clear_policy_provider()
    assert (await current_policy()).source is PolicySource.FAIL_CLOSED


async def test_a_second_provider_is_refused() -> None:
    set_policy_provider(default_provider)
    with pytest.raises(ProviderAlreadySet, match="clear_policy_provider"):
        set_policy_provider(default_provider)
