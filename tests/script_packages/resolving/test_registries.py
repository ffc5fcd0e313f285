"""Which registries hold, and what of an address is believed."""

from __future__ import annotations

import base64
import subprocess
from pathlib import Path

import pytest
from pydantic import ValidationError
from ringfence_script_packages.packages.errors import PackagesError, Why
from ringfence_script_packages.packages.resolving import machine
from ringfence_script_packages.packages.resolving.client import RegistryClient
from ringfence_script_packages.packages.resolving.machine import registries_of
from ringfence_script_packages.packages.resolving.programs import MissingProgramError
from ringfence_script_packages.packages.resolving.registries import (
    Registries,
    Registry,
    RegistrySettings,
    authorization,
)

from tests.primitives import requires
from tests.script_packages.resolving.registry import Registry as LoopbackRegistry

ROOT = Path(__file__).parents[3]


@pytest.mark.parametrize(
    "address",
    [
        "https://packages.example.com/simple",
        "https://packages.example.com:8443/a/b/",
        "http://127.0.0.1:3141/root/simple",
        "http://localhost:4873",
        "http://[::1]:4873",
    ],
)
def test_an_address_of_a_registry_is_taken(address: str) -> None:
    assert RegistrySettings(python_indexes=(address,)).python_indexes == (address.rstrip("/"),)


@pytest.mark.parametrize(
    "address",
    [
        "http://packages.example.com/simple",
        "http://127.0.0.1.example.com/",
        "https://me:sesame@packages.example.com/simple",
        "https://sesame@packages.example.com/simple",
        "https://packages.example.com/simple?token=sesame",
        "file:///etc",
        "ftp://packages.example.com",
        "https://",
        "https://[",
        "https://packages.example.com:99999",
        "https://packages.example.com/a b",
        "sesame",
    ],
)
def test_another_address_is_refused_and_not_repeated(address: str) -> None:
    with pytest.raises(ValidationError) as raised:
        RegistrySettings(python_indexes=(address,))
    assert "sesame" not in str(raised.value)


def test_a_credential_belongs_to_one_origin() -> None:
    mine = Registry("https://packages.example.com/simple", "Bearer a")
    registries = Registries(python=(mine,), npm=Registry("https://npm.example.com", "Bearer b"))
    assert registries.owner_of("https://packages.example.com/files/a.whl") is mine
    for url in (
        "http://packages.example.com/simple/a/",
        "https://packages.example.com:8443/simple/a/",
        "https://packages.example.com.evil.example/simple/a/",
        "https://evil.example/?https://packages.example.com/simple/",
        "https://packages.example.com@evil.example/simple/",
    ):
        assert registries.owner_of(url) is None


def test_of_two_registries_at_one_host_the_nearer_one_is_meant() -> None:
    one, two = (
        Registry("https://p.example/one/simple", "Bearer 1"),
        Registry("https://p.example/two/simple", "Bearer 2"),
    )
    registries = Registries(python=(one, two))
    assert registries.owner_of("https://p.example/one/simple/a/") is one
    assert registries.owner_of("https://p.example/two/simple/a/") is two


def test_a_secret_is_a_name_and_a_password_or_a_token() -> None:
    assert authorization("me:word") == f"Basic {base64.b64encode(b'me:word').decode()}"
    assert authorization("token") == "Bearer token"
    for wrong in ("", "a\r\nx-evil: 1", "ü"):
        with pytest.raises(ValueError, match="cannot be sent"):
            authorization(wrong)


@pytest.mark.usefixtures("no_configuration")
def test_without_any_configuration_it_is_the_default_of_the_tools() -> None:
    (index,) = registries_of(RegistrySettings()).python
    assert index.url.startswith("https://")
    assert index.authorization is None


@pytest.mark.usefixtures("no_configuration")
def test_what_pip_is_configured_for_holds_and_its_password_is_kept_apart(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PIP_INDEX_URL", "https://me:open%20sesame@pip.example/simple/")
    monkeypatch.setenv("PIP_EXTRA_INDEX_URL", "https://more.example/simple file:///srv/index")
    monkeypatch.setenv("PIP_FIND_LINKS", "/srv/wheels")
    registries = registries_of(RegistrySettings())
    assert [each.url for each in registries.python] == [
        "https://pip.example/simple",
        "https://more.example/simple",
        "file:///srv/index",
        "file:///srv/wheels",
    ]
    assert registries.python[0].authorization == authorization("me:open sesame")
    assert [each.flat for each in registries.python] == [False, False, False, True]
    assert registries.merged
    assert "sesame" not in repr(registries)


@pytest.mark.usefixtures("no_configuration")
def test_a_file_of_pip_is_read_by_pip(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    path = tmp_path / "pip.conf"
    path.write_text(
        "[global]\nindex-url = https://global.example/simple\n[install]\nindex-url = https://own.example/simple\n"
    )
    monkeypatch.setenv("PIP_CONFIG_FILE", str(path))
    assert [each.url for each in registries_of(RegistrySettings()).python] == ["https://own.example/simple"]


@pytest.mark.usefixtures("no_configuration")
def test_variables_of_uv_go_before_those_of_pip(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_INDEX_URL", "https://pip.example/simple")
    monkeypatch.setenv("UV_DEFAULT_INDEX", "https://uv.example/simple")
    monkeypatch.setenv("UV_INDEX", "own=https://own.example/simple")
    urls = [each.url for each in registries_of(RegistrySettings()).python]
    assert urls == ["https://uv.example/simple", "https://own.example/simple"]


@pytest.mark.usefixtures("no_configuration")
def test_a_machine_whose_index_has_no_tls_is_told_which_tool_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_INDEX_URL", "http://me:sesame@pip.example/simple")
    with pytest.raises(PackagesError, match=r"configuration of pip .* must be https") as raised:
        registries_of(RegistrySettings())
    assert "sesame" not in str(raised.value)


@pytest.mark.usefixtures("no_configuration")
def test_passwords_of_netrc_and_of_uvs_variables_are_for_their_indexes(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / ".netrc").write_text(
        "machine pip.example login me password sesame\ndefault login x password y\n"
    )
    (tmp_path / ".netrc").chmod(0o600)
    monkeypatch.setenv("UV_DEFAULT_INDEX", "https://pip.example/simple")
    monkeypatch.setenv("UV_INDEX", "my-own=https://own.example/simple https://more.example/simple")
    monkeypatch.setenv("UV_INDEX_MY_OWN_USERNAME", "we")
    monkeypatch.setenv("UV_INDEX_MY_OWN_PASSWORD", "open")
    found = registries_of(RegistrySettings()).python
    assert [each.authorization for each in found] == [
        authorization("me:sesame"),
        authorization("we:open"),
        None,
    ]
    (tmp_path / ".netrc").write_text("machine")
    assert registries_of(RegistrySettings()).python[0].authorization is None


@pytest.mark.usefixtures("no_configuration")
async def test_a_keyring_is_not_asked_and_a_registry_that_wants_a_credential_says_so(
    monkeypatch: pytest.MonkeyPatch, registry: LoopbackRegistry
) -> None:
    registry.password = "Basic x"
    monkeypatch.setenv("PIP_INDEX_URL", f"{registry.url}/simple")
    monkeypatch.setenv("PIP_KEYRING_PROVIDER", "subprocess")
    client = RegistryClient(registries_of(RegistrySettings()))
    with pytest.raises(PackagesError) as raised:
        await client.page(f"{registry.url}/simple/tea/", accept="*/*")
    await client.aclose()
    assert raised.value.why is Why.REFUSED
    assert "asks a keyring for credentials (keyring-provider: subprocess)" in (raised.value.hint or "")


@requires("node")
@pytest.mark.usefixtures("no_configuration")
def test_variables_of_npm_hold_and_one_that_is_not_there_is_told(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "npmrc").write_text(
        "registry=https://npm.example/all/\n"
        "@own:registry=https://own.example/npm\n@third:registry=https://third.example/\n"
        "//npm.example/:_authToken=of-the-file\n//own.example/:_authToken=${SESAME}\n"
        "//third.example/:certfile=/x\n"
    )
    monkeypatch.setenv("NPM_CONFIG_//npm.example/:_authToken", "of-the-variable")
    registries = registries_of(RegistrySettings())
    assert registries.npm == Registry("https://npm.example/all", "Bearer of-the-variable")
    own, third = registries.npm_for("@own/tea"), registries.npm_for("@third/tea")
    assert own is not None
    assert own.authorization is None
    assert "the variable SESAME, which this host does not have" in (own.unmet or "")
    assert third is not None
    assert "client certificate" in (third.unmet or "")


@requires("node")
@pytest.mark.usefixtures("no_configuration")
def test_what_npm_is_configured_for_holds_with_scopes_and_credentials(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("SESAME", "open")
    word = base64.b64encode(b"word").decode()
    (tmp_path / "npmrc").write_text(
        "registry=https://npm.example/all/\n"
        "@own:registry=https://own.example/npm\n"
        "//npm.example/:_authToken=${SESAME}\n"
        f"//own.example/npm/:username=me\n//own.example/npm/:_password={word}\n"
        "//elsewhere.example/:_authToken=other\n"
    )
    registries = registries_of(RegistrySettings())
    assert registries.npm == Registry("https://npm.example/all", "Bearer open")
    assert registries.npm_for("@own/tea") == Registry("https://own.example/npm", authorization("me:word"))
    assert registries.npm_for("@other/tea") == registries.npm_for("tea") == registries.npm


@pytest.mark.usefixtures("no_configuration")
def test_the_settings_go_before_the_machine_and_name_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_INDEX_URL", "https://pip.example/simple")
    settings = RegistrySettings(
        python_indexes=("https://index.example/simple/",),
        npm_registry="https://npm.example",
        npm_scopes={"@own": "https://own.example"},
        credentials={"https://index.example/simple": "INDEX", "https://own.example": "OWN"},
    )
    registries = registries_of(settings)
    assert registries.python == (Registry("https://index.example/simple", secret="INDEX"),)
    assert not registries.merged
    assert registries.npm_for("@own/tea") == Registry("https://own.example", secret="OWN")


def test_npm_is_not_asked_where_there_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    def gone() -> None:
        raise MissingProgramError("there is no npm", "install it")

    monkeypatch.setattr(machine, "node_and_npm", gone)
    assert registries_of(RegistrySettings()).npm is None


def test_no_address_of_a_registry_stands_in_the_repository() -> None:
    hosts = ("pypi.or" + "g", "pythonhoste" + "d", "npmjs.or" + "g", "npmjs.co" + "m", "yarnpkg.co" + "m")
    pattern = "|".join(host.replace(".", r"\.") for host in hosts)
    found = subprocess.run(
        ["git", "grep", "-nEI", pattern, "--", ".", ":!constraints.txt"],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert found.stdout == ""
    assert found.returncode == 1, found.stderr
