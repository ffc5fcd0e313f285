"""The evidence that `doctor --verify` shows: it holds where the sandbox does, and it can fail."""

from __future__ import annotations

from ringfence.sandbox import DEFAULT_POLICY, PolicySnapshot, overlay
from ringfence.scripts.verifying.verify import verify

from tests.primitives import requires

pytestmark = requires("user namespaces")


async def test_every_layer_of_the_shipped_default_is_shown_to_hold() -> None:
    verification = await verify(PolicySnapshot.default())
    assert [each for each in verification.evidence if not each.holds] == []
    assert {each.layer for each in verification.evidence} == {
        *("filesystem", "network", "privilege", "syscalls", "resources", "environment")
    }
    assert verification.to_wire()["holds"] is True


async def test_a_layer_that_is_off_is_shown_not_to_hold() -> None:
    off = {
        "filesystem": {"mode": "off"},
        "network": {"mode": "unrestricted", "denyLinkLocalAndMetadata": False},
    }
    verification = await verify(PolicySnapshot(overlay(DEFAULT_POLICY, off)))
    broken = {each.layer for each in verification.evidence if not each.holds}
    assert "filesystem" in broken
    assert not broken & {"privilege", "syscalls", "resources"}
    assert not verification.holds


async def test_a_refused_sandbox_is_evidence_of_nothing_but_the_refusal() -> None:
    snapshot = PolicySnapshot(DEFAULT_POLICY, not_understood=("network.proxy",))
    verification = await verify(snapshot)
    assert [(each.layer, each.holds) for each in verification.evidence] == [("network", False)]
