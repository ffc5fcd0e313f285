"""What is told of each plugin of a running host: all that it brings."""

from __future__ import annotations

from ringfence.testing import RunHost, client, installed


async def test_everything_that_a_plugin_brings_is_listed(run_host: RunHost) -> None:
    host = await run_host(plugins=installed("script-packages", "satellite", "secrets", "health-checks"))
    async with client(host) as admin:
        listed = {one["id"]: one for one in (await admin.get("/api/host/plugins")).json()["plugins"]}
    satellite, secrets, policy = listed["satellite"], listed["secrets"], listed["script-packages"]
    assert satellite["version"] == "0.1.0"
    assert (satellite["phase"], satellite["error"]) == ("ready", None)
    assert satellite["requires"] == ["script-packages"]
    assert "satellite-connected" in satellite["hooks"]
    assert "sandbox-policy-changed (broadcast)" in satellite["subscriptions"]
    assert "event-log-resumed (instance-local)" in satellite["subscriptions"]
    assert satellite["workerGroups"] == []
    assert "ringfence_satellite.service.Satellites" in satellite["services"]
    assert "RINGFENCE_SATELLITE_RUN_RETENTION_DAYS" in satellite["settings"]
    assert "GET /api/satellite/satellites" in satellite["routes"]
    assert satellite["commands"] == [
        *("agent", "agent install", "agent uninstall", "demo", "policy rollout", "runs"),
        *("satellite", "satellite enrol", "satellite runs"),
    ]
    assert secrets["extensionPoints"] == [
        "ringfence_secrets.service.SecretStore",
        "ringfence_secrets.service.SecretUser",
    ]
    assert (secrets["settings"], secrets["commands"]) == (["RINGFENCE_SECRETS_KEY"], ["secret"])
    assert policy["extensionPoints"] == [
        "ringfence_script_packages.packages.ports.BlobStore",
        "ringfence_script_packages.packages.ports.PackageHolder",
        "ringfence_script_packages.packages.ports.PackageUser",
        "ringfence_script_packages.service.PolicyPreviewer",
    ]
    assert "RINGFENCE_SCRIPT_PACKAGES_MAX_SET_MIB" in policy["settings"]
    assert policy["commands"] == ["packages", "policy"]
