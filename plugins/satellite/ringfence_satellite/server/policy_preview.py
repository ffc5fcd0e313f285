"""What a change of the policy would do to satellites: planned from the capabilities that each has told."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any, NamedTuple

from ringfence import PluginContext
from ringfence.sandbox.capabilities.model import Capabilities
from ringfence.sandbox.capabilities.reported import from_wire
from ringfence.sandbox.plan.outlook import Fate, Outlook, alike, outlook
from ringfence.sandbox.policy import SandboxPolicy
from ringfence.sandbox.policy.provider import PolicySnapshot
from ringfence_script_packages.service import ProposedPolicy, Prospect, Prospects
from sqlalchemy import text

# Most machines of a fleet tell the same: each document is read, and planned with, once.
_SATELLITES = text("""
    SELECT id, name, md5(capabilities::text) AS told FROM satellite_satellites ORDER BY name
""")
_TOLD = text("""
    SELECT DISTINCT ON (md5(capabilities::text)) md5(capabilities::text), capabilities
      FROM satellite_satellites WHERE capabilities IS NOT NULL
""")
_NOTHING_TOLD = Outlook(Fate.UNKNOWN, ("it has not told yet what it can enforce: it has never connected",))


class _Expected(NamedTuple):
    """What becomes of runs on a machine with the change, and without."""

    after: Outlook
    before: Outlook


_UNKNOWN = _Expected(_NOTHING_TOLD, _NOTHING_TOLD)


class SatellitePreviewer:
    """Is the satellites' `PolicyPreviewer`. What a policy shows of files is known on each satellite alone."""

    def __init__(self, context: PluginContext) -> None:
        self._context = context

    async def preview(self, proposed: ProposedPolicy) -> Prospects:
        """What would become of the runs on each satellite, whether it is online or not."""
        async with self._context.sessions() as session:
            satellites = (await session.execute(_SATELLITES)).all()
            told = {row[0]: row[1] for row in await session.execute(_TOLD)}
        expected = await asyncio.to_thread(_planned, told, proposed)
        return Prospects(
            "satellite",
            [
                _prospect(row.name, str(row.id), expected.get(row.told, _UNKNOWN) if row.told else _UNKNOWN)
                for row in satellites
            ],
        )


def _planned(told: Mapping[str, Any], proposed: ProposedPolicy) -> dict[str, _Expected]:
    """What is to be expected of the machines that have told this, by the digest of what they told."""
    expected: dict[tuple[Capabilities, bool], _Expected] = {}
    by_digest = {}
    for digest, document in told.items():
        machine = alike(from_wire(document)), _is_older(document)
        if machine not in expected:
            expected[machine] = _expected(*machine, proposed)
        by_digest[digest] = expected[machine]
    return by_digest


def _expected(capabilities: Capabilities, is_older: bool, proposed: ProposedPolicy) -> _Expected:
    after, before = (
        outlook(
            capabilities, PolicySnapshot(policy, not_understood=_unknown_to_older(policy) if is_older else ())
        )
        for policy in (proposed.after, proposed.before)
    )
    return _Expected(after, before)


def _is_older(document: object) -> bool:
    """Whether it is of an agent that knows neither names in `network.allow` nor needs: such tell of no relay."""
    return not isinstance(document, dict) or "relay" not in document


def _unknown_to_older(policy: SandboxPolicy) -> tuple[str, ...]:
    """What of a policy such an agent does not understand, so that it refuses runs."""
    network = policy.network
    listed = (*network.names, *network.local, *network.sockets)
    unknown = {
        "network.allow": bool(listed) or any("," in entry for entry in network.allow),
        "network.checkServerName": not network.check_server_name,
        "needsRequired": policy.needs_required,
    }
    return tuple(path for path, is_unknown in unknown.items() if is_unknown)


def _prospect(name: str, id: str, expected: _Expected) -> Prospect:
    return Prospect(name, expected.after.fate, expected.before.fate, expected.after.reasons, id)
