"""Tries: a task that is carried out once where a check would be, and of which nothing is stored."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from ringfence import PluginContext
from ringfence.bounded import ShortText
from ringfence.scripts import Carried, NoSecretsError, Task, carry_out, run
from ringfence_satellite.service import KnownSatellite, Satellites
from ringfence_secrets.service import SecretError, Secrets

from ringfence_health_checks.definitions.definition import CORE, Placement
from ringfence_health_checks.definitions.named_task import NamedTask
from ringfence_health_checks.definitions.package_sets import PackageSets
from ringfence_health_checks.running.core_runner import CORE_FACTS
from ringfence_health_checks.running.on_satellite import carry_out_on


class NoPlaceError(RuntimeError):
    """There is no place to try it in; the message says why."""


class Trial(NamedTask):
    """What is tried, and where: `on` (`core`, or a satellite by id or name), or one of the places of a check to be."""

    on: ShortText | None = None
    runs_on: Placement | None = None


class Tries:
    """Tries tasks on this instance and on satellites."""

    def __init__(self, context: PluginContext, package_sets: PackageSets) -> None:
        self._context = context
        self._package_sets = package_sets

    async def carry_out(self, trial: Trial, *, with_secrets: bool) -> dict[str, Any]:
        """Run it once, and say what came of it as JSON.

        In place of secrets it is given `***`, unless it may have them `with_secrets`, and runs here.

        Raises:
            NoPlaceError: if there is no such place.
            PackagesError: if what it imports is not there.
            RunFailed: if a satellite gives no result.
        """
        trial = await self._package_sets.with_set(trial, by=None)
        satellite = await self._place(trial)
        names = trial.secret_names
        has_secrets = with_secrets and satellite is None
        task = trial if has_secrets else trial.standing_in(names)
        carried = (
            await self._here(task, trial) if satellite is None else await self._there(task, trial, satellite)
        )
        found = carried.document(trial)
        if names and not has_secrets:
            why = (
                "a try on a satellite is given none"
                if with_secrets
                else "whoever asked may not have scripts given any"
            )
            found["notes"].append(f"given *** in place of {', '.join(sorted(names))}: {why}")
        return {**found, "on": CORE if satellite is None else satellite.name}

    async def _here(self, task: Task, trial: Trial) -> Carried:
        facts = {**CORE_FACTS, **trial.facts}
        return await carry_out(task, facts, secrets=self._secrets, run=run, timeout_ms=trial.timeout_ms)

    async def _there(self, task: Task, trial: Trial, satellite: KnownSatellite) -> Carried:
        satellites = self._context.services.get(Satellites)
        return await carry_out_on(
            satellites, satellite, task, trial.facts, timeout_ms=trial.timeout_ms, config_id=None
        )

    async def _secrets(self, names: Collection[str]) -> Mapping[str, str]:
        try:
            return await self._context.services.get(Secrets).get(names)
        except SecretError as error:
            raise NoSecretsError(str(error)) from error

    async def _place(self, trial: Trial) -> KnownSatellite | None:
        """The satellite on which it is tried; None for the core. Raises `NoPlaceError`."""
        satellites = self._context.services.get(Satellites)
        if trial.on is not None and trial.on != CORE:
            known = await satellites.find()
            named = [one for one in known if trial.on in {str(one.id), one.name}]
            if not named:
                raise NoPlaceError(f"there is no satellite {trial.on!r}")
            return named[0]
        places = trial.runs_on
        if trial.on == CORE or places is None or places.core:
            return None
        found = await satellites.find(ids=places.satellites, tags=places.tags, selector=places.selector)
        online = [one for one in found if one.status == "online"]
        if not online:
            raise NoPlaceError(
                f"none of its {len(found)} satellites is online"
                if found
                else "no satellite is among its places"
            )
        return online[0]
