"""A set is installed from a registry, with a credential that the secrets plugin keeps."""

from __future__ import annotations

import json

import pytest
from ringfence.testing import PluginFactory, RunHost, client
from ringfence_script_packages.plugin import ScriptPackagesPlugin
from ringfence_secrets.plugin import SecretsPlugin

from tests.primitives import requires
from tests.script_packages.packages.conftest import Packages
from tests.script_packages.resolving.registry import Answer, Registry, wheel_name

pytestmark = requires("relay")


@pytest.fixture
def plugins_under_test() -> PluginFactory:
    return lambda: [ScriptPackagesPlugin(), SecretsPlugin()]


@pytest.fixture
def configured(registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    address = f"{registry.url}/simple"
    settings = {"pythonIndexes": [address], "credentials": {address: "INDEX"}}
    monkeypatch.setenv("RINGFENCE_SCRIPT_PACKAGES_REGISTRIES", json.dumps(settings))
    registry.password = "Bearer open-sesame"


@pytest.mark.usefixtures("configured")
async def test_a_set_is_installed_once_its_credential_is_there(registry: Registry, run_host: RunHost) -> None:
    registry.offer("tea", needs=("water",))
    registry.offer("water")
    async with client(await run_host()) as http:
        packages = Packages(http)
        await packages.allow("tea")
        failed = await packages.install()
        assert failed["state"] == "failed"
        assert "secret INDEX does not exist" in json.dumps(failed)
        answer = await http.put("/api/secrets/secrets/INDEX", json={"value": "open-sesame"})
        assert answer.is_success, answer.text
        installed = await packages.install()
        users = await http.get("/api/secrets/secrets/INDEX/users")
    assert installed["state"] == "current", installed
    assert users.json()["users"] == [f"registry of packages {registry.url}/simple"]
    assert "sesame" not in json.dumps(installed)
    assert registry.asked_for("/files/water-1.0-py3-none-any.whl")


@pytest.mark.slow
@pytest.mark.usefixtures("configured")
async def test_what_a_registry_does_wrong_is_told_and_it_can_be_tried_again(
    registry: Registry, run_host: RunHost
) -> None:
    registry.password = None
    content = registry.offer("tea")
    file = f"/files/{wheel_name('tea')}"
    right = dict(registry.answers)
    wrong: dict[str, tuple[str, Answer]] = {
        "unreachable": ("/simple/tea/", Answer(status=503)),
        "refused": ("/simple/tea/", Answer(status=401)),
        "not-found": ("/simple/tea/", Answer(status=404)),
        "hash-differs": (file, Answer(content[:-1] + b"x")),
    }
    async with client(await run_host()) as http:
        packages = Packages(http)
        await http.put("/api/secrets/secrets/INDEX", json={"value": "open-sesame"})
        await packages.allow("tea")
        for reason, (path, answer) in wrong.items():
            registry.answers = {**right, path: answer}
            failed = await packages.install()
            assert (failed["state"], failed["lockHash"]) == ("failed", None)
            error = failed["error"]
            assert error["reason"] == reason, error
            assert error["package"].startswith("tea"), error
            assert error["hint"], error
        registry.answers = right
        assert (await packages.install())["state"] == "current"
