"""The satellite's process: its agent put together with this machine's sandbox, until it is told to stop."""

from __future__ import annotations

import asyncio
import importlib.metadata
from pathlib import Path

from ringfence_satellite.agent.connection import Agent
from ringfence_satellite.agent.runner import Runner
from ringfence_satellite.agent.settings import AgentSettings, AgentSettingsError
from ringfence_satellite.agent.state import AppliedPolicy
from ringfence_satellite.protocol import SandboxPolicyApplied

from ringfence import scripts
from ringfence.cli.errors import UsageMistake
from ringfence.cli.signals import until_stopped
from ringfence.sandbox import PolicySnapshot, clear_policy_provider, set_policy_provider
from ringfence.sandbox.capabilities import Capabilities, probe
from ringfence.sandbox.plan import Inputs, Interpreter, plan


def read_settings(*, url: str, client_id: str, token_file: Path) -> AgentSettings:
    """Where to connect, and as whom.

    Raises:
        UsageMistake: if the address is none, or the token cannot be read.
    """
    try:
        version = importlib.metadata.version("ringfence")
        settings = AgentSettings(url=url, client_id=client_id, token_file=token_file, version=version)
        settings.read_token()
    except AgentSettingsError as error:
        raise UsageMistake(str(error)) from error
    return settings


def serve_until_stopped(settings: AgentSettings) -> None:
    """Stay connected until Ctrl-C or SIGTERM; every run that is under way is ended then."""
    asyncio.run(until_stopped(_serve(settings)))


async def _serve(settings: AgentSettings) -> None:
    capabilities = await asyncio.to_thread(probe)

    async def assess(snapshot: PolicySnapshot, revision: int) -> SandboxPolicyApplied:
        return assessed(capabilities, snapshot, revision)

    policy = AppliedPolicy()
    agent = Agent(
        settings,
        policy=policy,
        runner=Runner(scripts.run),
        assess=assess,
        capabilities=capabilities.to_wire(),
    )
    set_policy_provider(policy.provider)
    try:
        await agent.serve()
    finally:
        clear_policy_provider()


def assessed(capabilities: Capabilities, snapshot: PolicySnapshot, revision: int) -> SandboxPolicyApplied:
    """What this machine can enforce of a policy: what a shell script's run would report, without running one."""
    report = plan(capabilities, snapshot, Inputs(Interpreter.SHELL)).report
    wire = report.to_wire()
    return SandboxPolicyApplied.model_validate(
        {"revision": revision, "enforced": wire["enforced"], "downgrades": wire["downgrades"]}
    )
