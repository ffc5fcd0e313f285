"""What the log says at start-up: what this host can enforce, and what to do when that is not what the policy asks."""

from __future__ import annotations

import asyncio

import structlog
from ringfence.sandbox.capabilities.advice import advice
from ringfence.sandbox.capabilities.model import describe
from ringfence.sandbox.capabilities.probe import probe
from ringfence.sandbox.plan.decide import plan
from ringfence.sandbox.plan.model import Inputs, Interpreter, Refusal
from ringfence.sandbox.policy import OnUnavailable
from ringfence.scripts.running.hosts_view import with_host

from ringfence_script_packages.policy_copy import PolicyHolder


async def announce(logger: structlog.stdlib.BoundLogger, holder: PolicyHolder) -> None:
    """Log one line on this host's capabilities, and one warning if the policy in force asks for more than they give.

    Read in this process, which is the one that runs scripts: another process may be confined differently.
    """
    capabilities = await asyncio.to_thread(probe)
    logger.info("sandbox capabilities", host=describe(capabilities))
    snapshot = await holder.provide()
    inputs = await asyncio.to_thread(with_host, Inputs(Interpreter.SHELL), snapshot.policy)
    decided = plan(capabilities, snapshot, inputs)
    if not decided.report.downgrades:
        return
    refused = isinstance(decided, Refusal) or snapshot.policy.on_unavailable is OnUnavailable.FAIL
    logger.warning(
        "this host cannot enforce the sandbox policy; "
        + ("every script is refused" if refused else "scripts run with less than it asks"),
        lacking=[f"{one.layer}: {one.reason}" for one in decided.report.downgrades],
        remedies=[f"{one.primitive}: {one.remedy}" for one in advice(capabilities)],
    )
