"""The agent as a process: its policy becomes the process's one policy, and a signal stops it cleanly."""

from __future__ import annotations

import asyncio
import importlib.metadata
import socket
import ssl
from contextlib import nullcontext

import structlog
from ringfence.metrics import open_port
from ringfence.process.service_manager import ServiceManager
from ringfence.process.signals import until_stopped
from ringfence.sandbox import clear_policy_provider, set_policy_provider
from ringfence.sandbox.capabilities.document import to_wire
from ringfence.sandbox.capabilities.model import describe
from ringfence.sandbox.capabilities.probe import probe, remembered
from ringfence.sandbox.launch.kept import KEPT
from ringfence.scripts import clear_package_provider, set_package_provider
from ringfence.scripts import run as run_script
from ringfence.scripts.packages.reach import runs_as_another_user
from ringfence.tracing.exporting import exported

from ringfence_satellite.agent.assessment import assess
from ringfence_satellite.agent.connecting.connection import Agent
from ringfence_satellite.agent.delivering.spool import Spool
from ringfence_satellite.agent.metrics import scraping_of
from ringfence_satellite.agent.packages.kept import Packages, platform_of
from ringfence_satellite.agent.policy_state import AppliedPolicy
from ringfence_satellite.agent.running.place import Place
from ringfence_satellite.agent.running.runner import Runner
from ringfence_satellite.agent.running.runs import AskedRuns
from ringfence_satellite.agent.running.secrets import SecretRequests
from ringfence_satellite.agent.scheduled.schedule import Duties
from ringfence_satellite.agent.scheduled.states import KeptStates
from ringfence_satellite.agent.settings import AgentSettings

_log = structlog.get_logger("ringfence.satellite.agent")


def version() -> str:
    """The version that this agent tells its host."""
    return importlib.metadata.version("ringfence")


def run(
    settings: AgentSettings,
    spool: Spool,
    asked: Spool,
    trusted: ssl.SSLContext,
    metrics: socket.socket | None = None,
) -> None:
    """Be a satellite until SIGTERM or SIGINT.

    Then every run has been cancelled, and the host told goodbye. `asked` holds the results of runs that it has asked
    for, `spool` those of assignments. `metrics` listens where /metrics is served, if it is.
    """
    with exported("ringfence-agent"):
        asyncio.run(until_stopped(_serve(settings, spool, asked, trusted, metrics), service=True))


async def _serve(
    settings: AgentSettings,
    spool: Spool,
    asked: Spool,
    trusted: ssl.SSLContext,
    metrics: socket.socket | None,
) -> None:
    manager = ServiceManager()
    KEPT.add(settings.token_file, settings.results_dir, settings.runs_dir)
    capabilities = await asyncio.to_thread(probe)
    _log.info("satellite starts", enforces=describe(capabilities))
    policy = AppliedPolicy()
    packages = Packages(
        settings.packages_dir,
        await asyncio.to_thread(platform_of, capabilities),
        other_user=runs_as_another_user(capabilities),
    )
    secrets = SecretRequests()
    place = Place()
    states = KeptStates(settings.states_dir)
    duties = Duties(run_script, secrets.ask, spool, place, states)
    runs = AskedRuns(Runner(run_script, secrets.ask, place, states), asked)
    agent = Agent(
        settings,
        policy=policy,
        runs=runs,
        duties=duties,
        secrets=secrets,
        spool=spool,
        place=place,
        packages=packages,
        assess=lambda snapshot, revision: assess(remembered() or capabilities, snapshot, revision),
        capabilities=to_wire(capabilities),
        trusted=trusted,
    )
    # The one provider of this process: whoever runs a script here, the applied policy governs it.
    set_policy_provider(policy.provider)
    set_package_provider(packages.provide)
    scraping = scraping_of(agent, policy, {"checks": spool, "runs": asked})
    try:
        async with (
            manager.told_of_life("Connecting to its host"),
            nullcontext() if metrics is None else open_port.serving(metrics, scraping.text),
            asyncio.TaskGroup() as tasks,
        ):
            tasks.create_task(duties.serve(), name="duties")
            tasks.create_task(packages.keep(), name="packages")
            await agent.serve()
    finally:
        await runs.stop()
        clear_policy_provider()
        clear_package_provider()
        spool.close()
        asked.close()
