"""Checks and their packages: a set that they name, or what their script says in its own text."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
from ringfence.host import Host
from ringfence.scripts.packages.platform import Platform
from ringfence.testing import PluginFactory, RunHost, client
from ringfence_health_checks.plugin import HealthChecksPlugin
from ringfence_satellite.plugin import SatellitePlugin
from ringfence_script_packages.addresses import PACKAGES
from ringfence_script_packages.packages.platforms import Platforms
from ringfence_script_packages.plugin import ScriptPackagesPlugin
from ringfence_secrets.plugin import SecretsPlugin

from tests.health_checks.conftest import CHECKS, definition
from tests.packages.machines import RASPBERRY
from tests.script_packages.packages.conftest import Packages
from tests.script_packages.packages.registry import Registry
from tests.script_packages.packages.test_blobs import context_of

TRIES = "/api/health-checks/tries"
SCRIPT = '# /// script\n# dependencies = ["alpha<2"]\n# ///\nimport alpha\n'


@pytest.fixture
def registry() -> Registry:
    return Registry({"alpha": [("1.0", 1000), ("2.0", 3000)]})


@pytest.fixture
def plugins_under_test(registry: Registry) -> PluginFactory:
    return lambda: [
        ScriptPackagesPlugin(resolver=registry, fetcher=registry),
        SatellitePlugin(),
        SecretsPlugin(),
        HealthChecksPlugin(),
    ]


@pytest.fixture
async def host(run_host: RunHost) -> Host:
    return await run_host()


@pytest.fixture
async def packages(host: Host) -> AsyncIterator[Packages]:
    async with client(host) as http:
        yield Packages(http)


def python(script: str = SCRIPT, **fields: Any) -> dict[str, Any]:
    return definition(kind="python", script=script, intervalSeconds=3600.0, **fields)


async def test_a_script_gets_a_set_of_what_it_says_within_what_is_allowed(
    packages: Packages, registry: Registry
) -> None:
    await packages.allow("alpha>=1")
    made = await packages.http.post(CHECKS, json=python())
    assert made.status_code == 201, made.text
    name = made.json()["packages"]
    assert name.startswith("inline-")
    state = await packages.ended(name)
    assert (state["state"], state["inline"], state["packages"][0]["version"]) == ("current", True, "1.0")
    assert registry.asked == [("alpha<2,>=1",)]
    other = await packages.http.post(CHECKS, json=python(SCRIPT + "# another\n", name="other"))
    assert other.json()["packages"] == name
    assert len(registry.asked) == 1


async def test_what_is_not_allowed_is_refused_by_name_and_nothing_is_written(packages: Packages) -> None:
    answer = await packages.http.post(CHECKS, json=python())
    assert answer.status_code == 422
    assert "alpha: it is not in the allowlist" in answer.json()["detail"]
    assert "ringfence packages allow alpha" in answer.json()["detail"]
    assert (await packages.http.get(CHECKS)).json()["checks"] == []
    assert (await packages.http.get(f"{PACKAGES}/sets")).json()["sets"] == []


async def test_a_script_that_says_nothing_any_more_has_no_such_set(packages: Packages) -> None:
    await packages.allow("alpha")
    made = (await packages.http.post(CHECKS, json=python())).json()
    changed = await packages.http.patch(f"{CHECKS}/{made['id']}", json={"script": "print(1)"})
    assert changed.status_code == 200, changed.text
    assert "packages" not in changed.json()
    again = await packages.http.patch(f"{CHECKS}/{made['id']}", json={"script": SCRIPT})
    assert again.json()["packages"] == made["packages"]


async def test_a_check_names_a_set_that_there_is(packages: Packages) -> None:
    refused = await packages.http.post(CHECKS, json=python("print(1)", packages="web"))
    assert refused.status_code == 422
    assert "there is no set of packages 'web'" in refused.json()["detail"]
    await packages.allow("alpha", set="web")
    made = await packages.http.post(CHECKS, json=python("print(1)", packages="web"))
    assert made.json()["packages"] == "web"
    both = await packages.http.post(CHECKS, json=python(packages="web", name="both"))
    assert both.status_code == 422
    assert "and the set web is named as well" in both.json()["detail"]


async def test_the_sets_of_checks_are_not_collected(packages: Packages) -> None:
    await packages.allow("alpha")
    name = (await packages.http.post(CHECKS, json=python())).json()["packages"]
    await packages.ended(name)
    assert (await packages.http.post(f"{PACKAGES}/gc")).json()["sets"] == 0
    assert (await packages.show(name))["state"] == "current"


async def test_a_script_for_a_python_that_no_machine_has_is_refused(packages: Packages) -> None:
    await packages.allow("alpha")
    for dependencies in ("", 'dependencies = ["alpha"]'):
        script = f'# /// script\n# requires-python = ">=4"\n# {dependencies}\n# ///\n'
        refused = await packages.http.post(CHECKS, json=python(script))
        assert refused.status_code == 422
        assert "is for Python >=4, and no machine of the fleet has that" in refused.json()["detail"]
    names = [one["name"] for one in (await packages.http.get(f"{PACKAGES}/sets")).json()["sets"]]
    assert names == ["default"]


async def test_where_only_some_machines_have_its_python_its_set_says_so(
    host: Host, packages: Packages
) -> None:
    await packages.allow("alpha")
    await packages.install()
    own = (await packages.show())["platforms"][0]["python"]["version"]
    elsewhere = Platform(python=RASPBERRY.python.model_copy(update={"version": "3.99.0"}))  # type: ignore[union-attr]
    await Platforms(context_of(host)).seen(elsewhere)
    script = '# /// script\n# requires-python = ">=3.99"\n# dependencies = ["alpha"]\n# ///\n'
    made = await packages.http.post(CHECKS, json=python(script))
    state = await packages.ended(made.json()["packages"])
    assert (state["state"], state["requiresPython"]) == ("current", ">=3.99")
    problems = {one["python"]["version"]: one["problem"] for one in state["platforms"]}
    assert problems["3.99.0"] is None
    assert f"for Python >=3.99, not {own}" in problems[own]
    again = await packages.install(made.json()["packages"], upgrade=True)
    assert again["lockHash"] == state["lockHash"]


async def test_a_try_has_the_packages_of_its_text_once_they_are_installed(packages: Packages) -> None:
    await packages.allow("alpha")
    trial = {"kind": "python", "script": SCRIPT, "name": "try", "system": "try"}
    refused = await packages.http.post(TRIES, json=trial)
    assert refused.status_code == 422
    assert "ringfence packages install --script FILE" in refused.json()["detail"]
    made = await packages.http.post(f"{PACKAGES}/scripts/install", json={"script": SCRIPT, "name": "a.py"})
    await packages.ended(made.json()["name"])
    answer = await packages.http.post(TRIES, json=trial)
    # That the file is no wheel shows that it was looked for.
    assert answer.status_code == 200, answer.text
    assert "packages are not ready here" in answer.text
    nothing = await packages.http.post(
        f"{PACKAGES}/scripts/install", json={"script": "x = 1", "name": "a.py"}
    )
    assert nothing.status_code == 422
