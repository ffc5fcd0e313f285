"""The log says at every start what this host can enforce; and once what to do, where the policy asks for more."""

from __future__ import annotations

from collections.abc import MutableMapping
from typing import Any

import pytest
import structlog
from ringfence.sandbox.capabilities.model import Capabilities, describe
from ringfence.testing import RunHost, client
from ringfence_script_packages import startup_notice
from ringfence_script_packages.plugin import ScriptPackagesPlugin
from structlog.testing import capture_logs

from tests.sandbox.hosts import linux, with_blocked_namespaces, with_nothing

POLICY = "/api/script-packages/sandbox-policy"
Line = MutableMapping[str, Any]


async def start(
    run_host: RunHost, monkeypatch: pytest.MonkeyPatch, capabilities: Capabilities
) -> tuple[list[Line], list[Line]]:
    """What a host that can do so much says at its start: of its capabilities, and warnings of what they lack."""
    monkeypatch.setattr(startup_notice, "probe", lambda: capabilities)
    with capture_logs() as lines:
        await run_host()
    return (
        [line for line in lines if line["event"] == "sandbox capabilities"],
        [line for line in lines if "cannot enforce" in line["event"]],
    )


async def test_a_host_that_can_do_everything_says_so_once_and_warns_of_nothing(
    run_host: RunHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    said, warned = await start(run_host, monkeypatch, linux())
    assert [line["host"] for line in said] == [describe(linux())]
    assert warned == []


async def test_what_cannot_be_enforced_is_warned_of_once_with_what_to_do(
    run_host: RunHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    said, [warning] = await start(run_host, monkeypatch, with_nothing())
    assert [line["host"] for line in said] == [describe(with_nothing())]
    assert warning["log_level"] == "warning"
    assert "every script is refused" in warning["event"]
    assert any(line.startswith("filesystem: ") for line in warning["lacking"])
    assert any(line.startswith("userNamespaces: ") for line in warning["remedies"])


async def test_under_degrade_it_says_that_scripts_run_with_less(
    run_host: RunHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    plugin = ScriptPackagesPlugin()
    host = await run_host(plugins=[plugin])
    async with client(host) as admin:
        await admin.patch(POLICY, json={"policy": {"onUnavailable": "degrade"}})
    monkeypatch.setattr(startup_notice, "probe", with_blocked_namespaces)
    with capture_logs() as lines:
        await startup_notice.announce(structlog.get_logger(), plugin._holder)
    assert [line["event"] for line in lines if line["log_level"] == "warning"] == [
        "this host cannot enforce the sandbox policy; scripts run with less than it asks"
    ]
