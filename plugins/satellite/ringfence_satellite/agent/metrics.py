"""The metrics of an agent: its connection, what waits for its host, its runs and its process."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ringfence.metrics import Metric, counter, gauge
from ringfence.metrics.process import of_process
from ringfence.metrics.runs import of_runs
from ringfence.metrics.scraping import Scraping

from ringfence_satellite.agent.connecting.connection import Agent
from ringfence_satellite.agent.delivering.spool import Spool
from ringfence_satellite.agent.policy_state import AppliedPolicy


def scraping_of(agent: Agent, policy: AppliedPolicy, spools: Mapping[str, Spool]) -> Scraping:
    """What is asked at each scrape. `spools` are by what is in them."""

    async def own() -> Sequence[Metric]:
        return of_agent(
            connected=agent.connected, connections=agent.connections, policy=policy, spools=spools
        )

    collectors = {"agent": own, "runs": of_runs, "process": of_process}
    return Scraping(lambda: collectors)


def of_agent(
    *, connected: bool, connections: int, policy: AppliedPolicy, spools: Mapping[str, Spool]
) -> Sequence[Metric]:
    """What an agent tells of itself."""
    return [
        gauge("ringfence_agent_connected", "1 while a host has let this satellite in", float(connected)),
        counter(
            "ringfence_agent_connections_total",
            "How often a host has let this satellite in",
            connections,
        ),
        gauge(
            "ringfence_agent_policy_revision",
            "The revision of the policy that governs this satellite's next run; absent before the first one",
            {} if policy.state.revision is None else {(): float(policy.state.revision)},
        ),
        gauge(
            "ringfence_agent_spool_results",
            "Results that no host has acknowledged yet, of checks and of runs that a host has asked for",
            {(name,): float(len(spool)) for name, spool in spools.items()},
            labels=["spool"],
        ),
        gauge(
            "ringfence_agent_spool_bytes",
            "How large those results are",
            {(name,): float(spool.bytes) for name, spool in spools.items()},
            labels=["spool"],
        ),
        counter(
            "ringfence_agent_spool_dropped_total",
            "Results that were dropped for newer ones, because the spool was full, or could not be written",
            {(name,): float(spool.dropped) for name, spool in spools.items()},
            labels=["spool"],
        ),
    ]
