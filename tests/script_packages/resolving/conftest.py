"""Registries of the tests' own, and what resolves and fetches from them."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path

import pytest
from ringfence_script_packages.packages.resolving.registries import Registries, RegistrySettings
from ringfence_script_packages.packages.resolving.registries import Registry as RegistryAddress
from ringfence_script_packages.packages.resolving.resolver import RegistryPackages

from tests.certificates import private_tls
from tests.script_packages.resolving.registry import Registry


@pytest.fixture
def registry() -> Iterator[Registry]:
    with Registry() as registry:
        yield registry


@pytest.fixture
def other() -> Iterator[Registry]:
    with Registry() as registry:
        yield registry


@pytest.fixture
def file_host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Registry]:
    """A host with TLS that is no registry, and that this machine trusts."""
    tls = private_tls(tmp_path)
    monkeypatch.setenv("SSL_CERT_FILE", str(tls.ca_file))
    with Registry(tls=tls.server) as registry:
        yield registry


@pytest.fixture
def no_configuration(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Tools that have nothing configured: no variables, and a home that is empty."""
    for name in os.environ:
        if name.upper().startswith(("PIP_", "UV_", "NPM_CONFIG")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("npm_config_userconfig", str(tmp_path / "npmrc"))
    monkeypatch.setenv("npm_config_globalconfig", str(tmp_path / "global-npmrc"))


def packages_of(settings: RegistrySettings, secrets: Mapping[str, str] | None = None) -> RegistryPackages:
    """What resolves and fetches under these settings; `secrets` are the values that the secrets plugin has."""

    async def values(names: Collection[str]) -> Mapping[str, str]:
        return secrets or {}

    return RegistryPackages(settings, values)


def settings_for(*indexes: Registry, **more: object) -> RegistrySettings:
    """What an administrator would write for these registries."""
    return RegistrySettings.model_validate(
        {
            "python_indexes": [f"{each.url}/simple" for each in indexes],
            "npm_registry": f"{indexes[0].url}/npm",
            **more,
        }
    )


def registries_for(*indexes: Registry) -> Registries:
    """The same registries, once it is known which they are."""
    return Registries(
        python=tuple(RegistryAddress(f"{each.url}/simple") for each in indexes),
        npm=RegistryAddress(f"{indexes[0].url}/npm"),
    )
