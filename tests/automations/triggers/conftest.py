"""One host for many cases: the triggers and the engine, on a real database."""

from __future__ import annotations

from collections.abc import Collection, Mapping

import pytest
from ringfence.testing import RunHost, StandIn
from ringfence_secrets.service import MissingSecretsError, Secrets

from tests.automations.triggers.machine import Machine


class FakeSecrets:
    def __init__(self) -> None:
        self.values = {"hook-key": "a key"}

    async def get(self, names: Collection[str]) -> Mapping[str, str]:
        if missing := set(names) - set(self.values):
            raise MissingSecretsError(missing)
        return {name: self.values[name] for name in names}


def secrets() -> StandIn:
    return StandIn("secrets", services={Secrets: FakeSecrets()})


@pytest.fixture
async def machine(run_host: RunHost) -> Machine:
    made = Machine()
    await run_host(plugins=[secrets(), made])
    return made
