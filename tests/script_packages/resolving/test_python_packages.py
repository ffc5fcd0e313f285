"""Packages of Python are resolved by uv in a sandbox, from registries that may be hostile."""

from __future__ import annotations

import asyncio
import json
import shutil
import tempfile
from pathlib import Path

import httpx
import pytest
from ringfence.scripts.packages.lock import Ecosystem, Lock, NoFit, Requirement
from ringfence.scripts.packages.platform import Platform
from ringfence_script_packages.packages.errors import PackagesError, Why
from ringfence_script_packages.packages.resolving import client as client_module
from ringfence_script_packages.packages.resolving import python_packages
from ringfence_script_packages.packages.resolving.client import RegistryClient
from ringfence_script_packages.packages.resolving.gateway import Gateway
from ringfence_script_packages.packages.resolving.programs import uv_program
from ringfence_script_packages.packages.resolving.registries import Registries, RegistrySettings
from ringfence_script_packages.packages.resolving.registries import Registry as RegistryAddress
from ringfence_script_packages.packages.resolving.resolver import RegistryPackages

from tests.packages.machines import ALPINE, DEBIAN, RASPBERRY
from tests.primitives import requires
from tests.script_packages.resolving.conftest import packages_of, registries_for, settings_for
from tests.script_packages.resolving.registry import Answer, Registry, told, wheel, wheel_name

pytestmark = [pytest.mark.slow, requires("relay")]

FLEET = (DEBIAN, ALPINE, RASPBERRY)


async def resolved(
    packages: RegistryPackages,
    *texts: str,
    platforms: tuple[Platform, ...] = FLEET,
    told: list[str] | None = None,
    previous: Lock | None = None,
    requires_python: str | None = None,
) -> Lock:
    requirements = [Requirement(ecosystem=Ecosystem.PYPI, text=text) for text in texts]
    progress = (told if told is not None else []).append
    return await packages.resolve(
        requirements, platforms, progress, previous=previous, requires_python=requires_python
    )


async def refused(packages: RegistryPackages, *texts: str) -> PackagesError:
    with pytest.raises(PackagesError) as raised:
        await resolved(packages, *texts)
    return raised.value


async def test_a_lock_names_what_is_needed_with_all_that_it_needs(registry: Registry) -> None:
    content = registry.offer("tea-pot", needs=("water>=1",))
    registry.offer("water", "1.5")
    packages, told = packages_of(settings_for(registry)), list[str]()
    lock = await resolved(packages, "Tea_Pot", told=told)
    assert [(each.name, each.version) for each in lock.python] == [("tea-pot", "1.0"), ("water", "1.5")]
    assert [each.text for each in lock.requirements] == ["Tea_Pot"]
    pot = lock.python[0].files[0]
    assert pot.url == f"{registry.url}/files/{wheel_name('tea-pot')}"
    assert b"".join([piece async for piece in packages.fetch(pot)]) == content
    assert any("water" in line for line in told)


async def test_what_is_locked_already_stays_where_it_fits(registry: Registry) -> None:
    registry.offer("tea", needs=("water", "leaves"))
    registry.offer("water")
    registry.offer("leaves")
    packages = packages_of(settings_for(registry))
    first = await resolved(packages, "tea")
    registry.offer("water", "2.0", beside=True)
    registry.offer("leaves", "2.0", beside=True)
    registry.offer("milk", needs=("leaves>=2",))
    more = await resolved(packages, "tea", "milk", previous=first)
    assert {each.name: each.version for each in more.python} == {
        "tea": "1.0",
        "water": "1.0",
        "leaves": "2.0",
        "milk": "1.0",
    }
    newest = await resolved(packages, "tea", "milk")
    assert {each.version for each in newest.python if each.name == "water"} == {"2.0"}


async def test_a_script_for_some_versions_of_python_gets_what_these_have(registry: Registry) -> None:
    newer = told(wheel_name("tea", "2.0"), wheel("tea", "2.0"), f"{registry.url}/files/tea2")
    older = told(wheel_name("tea", "1.0"), wheel("tea", "1.0"), f"{registry.url}/files/tea1")
    registry.answers["/files/tea2"] = Answer(wheel("tea", "2.0"))
    registry.answers["/files/tea1"] = Answer(wheel("tea", "1.0"))
    registry.page("tea", {**newer, "requires-python": ">=3.12"}, older)
    packages = packages_of(settings_for(registry))
    lock = await resolved(packages, "tea", requires_python=">=3.12")
    assert [each.version for each in lock.python] == ["2.0"]
    assert isinstance(lock.files_for(DEBIAN), NoFit)
    assert not isinstance(lock.files_for(RASPBERRY), NoFit)
    with pytest.raises(PackagesError, match=r"no machine of the fleet has that: there is 3.11.2, 3.12.9"):
        await resolved(packages, "tea", requires_python=">=4")


async def test_the_same_answers_make_the_same_lock(registry: Registry) -> None:
    registry.offer("tea")
    packages = packages_of(settings_for(registry))
    assert (await resolved(packages, "tea")).hash == (await resolved(packages, "tea")).hash


async def test_each_platform_has_its_own_wheel_and_other_systems_are_left_out(registry: Registry) -> None:
    tags = (
        "cp311-cp311-manylinux_2_17_x86_64",
        "cp312-cp312-musllinux_1_2_x86_64",
        "cp313-cp313-manylinux_2_17_aarch64",
        "cp311-cp311-win_amd64",
    )
    files = []
    for tag in tags:
        name, content = wheel_name("tea", tag=tag), wheel("tea", body=tag.encode())
        registry.answers[f"/files/{name}"] = Answer(content)
        files.append(told(name, content, f"../../files/{name}"))
    registry.page("tea", *files)
    lock = await resolved(packages_of(settings_for(registry)), "tea")
    for platform, tag in zip(FLEET, tags, strict=False):
        found = lock.files_for(platform)
        assert [each.filename for each in found] == [wheel_name("tea", tag=tag)]  # type: ignore[union-attr]
    assert len(lock.files) == 3


async def test_an_old_python_of_the_fleet_does_not_keep_the_others_from_a_package(registry: Registry) -> None:
    content = wheel("tea")
    registry.answers[f"/files/{wheel_name('tea')}"] = Answer(content)
    url = f"{registry.url}/files/{wheel_name('tea')}"
    registry.page("tea", told(wheel_name("tea"), content, url, **{"requires-python": ">=3.12"}))
    lock = await resolved(packages_of(settings_for(registry)), "tea")
    assert lock.requires_python == ">=3.12"
    assert not isinstance(lock.files_for(ALPINE), tuple) or len(lock.files_for(ALPINE)) == 1  # type: ignore[arg-type]
    assert not isinstance(lock.files_for(DEBIAN), tuple)


async def test_a_package_that_is_only_a_source_is_refused_and_nothing_of_it_runs(registry: Registry) -> None:
    registry.page("tea", told("tea-1.0.tar.gz", b"", f"{registry.url}/files/tea-1.0.tar.gz"))
    error = await refused(packages_of(settings_for(registry)), "tea")
    assert (error.why, error.package) == (Why.NO_FILE, "tea")
    assert "only its source" in error.message
    assert registry.asked_for("/files/tea-1.0.tar.gz") == []


async def test_what_is_needed_and_only_a_source_is_named_itself(registry: Registry) -> None:
    registry.offer("tea", needs=("leaves",))
    registry.page("leaves", told("leaves-1.0.tar.gz", b"", f"{registry.url}/files/leaves-1.0.tar.gz"))
    error = await refused(packages_of(settings_for(registry)), "tea")
    assert (error.why, error.package) == (Why.NO_FILE, "leaves")


async def test_a_package_for_other_systems_alone_is_refused(registry: Registry) -> None:
    name = wheel_name("tea", tag="cp311-cp311-win_amd64")
    registry.page("tea", told(name, b"", f"{registry.url}/files/{name}"))
    error = await refused(packages_of(settings_for(registry)), "tea")
    assert (error.why, error.package) == (Why.NO_FILE, "tea")
    assert "other systems" in error.message


async def test_a_package_that_is_not_there_is_named(registry: Registry) -> None:
    registry.offer("tea", needs=("leaves",))
    error = await refused(packages_of(settings_for(registry)), "tea")
    assert (error.why, error.package) == (Why.NOT_FOUND, "leaves")


async def test_ranges_that_do_not_fit_are_told_without_the_address_of_the_gateway(registry: Registry) -> None:
    registry.offer("tea", "1.0")
    error = await refused(packages_of(settings_for(registry)), "tea>=2")
    assert error.why is Why.CONFLICT
    assert "tea" in error.message
    assert "127.0.0.1" not in error.message


async def test_a_registry_that_refuses_is_told(registry: Registry) -> None:
    registry.password = "Bearer sesame"
    error = await refused(packages_of(settings_for(registry)), "tea")
    assert (error.why, error.package) == (Why.REFUSED, "tea")


async def test_a_registry_that_is_not_there_is_told() -> None:
    gone = Registry()
    gone._server.server_close()
    error = await refused(packages_of(settings_for(gone)), "tea")
    assert error.why is Why.UNREACHABLE


async def test_a_credential_reaches_the_registry_alone_and_is_nowhere_else(
    registry: Registry, file_host: Registry
) -> None:
    registry.password = "Basic bWU6b3Blbi1zZXNhbWU="
    content = registry.offer("tea", at=file_host.url)
    file_host.answers[f"/files/{wheel_name('tea')}"] = Answer(content)
    settings = settings_for(registry, credentials={f"{registry.url}/simple": "INDEX"})
    packages = packages_of(settings, {"INDEX": "me:open-sesame"})
    lock = await resolved(packages, "tea")
    assert b"".join([piece async for piece in packages.fetch(lock.python[0].files[0])]) == content
    assert all(each.headers["authorization"] == registry.password for each in registry.requests)
    assert len(file_host.requests) >= 2
    assert all("authorization" not in each.headers for each in file_host.requests)
    assert "sesame" not in lock.model_dump_json() + repr(lock) + repr(packages.__dict__)


async def test_a_package_comes_from_the_first_index_that_has_it(registry: Registry, other: Registry) -> None:
    registry.offer("own-tea", "1.0")
    other.offer("own-tea", "99.0")
    other.offer("milk")
    lock = await resolved(packages_of(settings_for(registry, other)), "own-tea", "milk")
    assert [(each.name, each.version) for each in lock.python] == [("milk", "1.0"), ("own-tea", "1.0")]


async def test_an_index_that_fails_is_not_replaced_by_the_next(registry: Registry, other: Registry) -> None:
    registry.answers["/simple/own-tea/"] = Answer(status=500)
    other.offer("own-tea", "99.0")
    error = await refused(packages_of(settings_for(registry, other)), "own-tea")
    assert error.why is Why.UNREACHABLE


async def test_files_under_names_that_look_alike_are_not_taken(registry: Registry) -> None:
    good = wheel("tea")
    alike = (wheel_name("te\N{CYRILLIC SMALL LETTER A}"), wheel_name("tea-evil", "9.0"))
    names = (*alike, "tea-9.0-py3-none-any.whl.exe", "../tea-9.0-py3-none-any.whl")
    files = [told(name, good, f"{registry.url}/files/x.whl") for name in names]
    registry.answers[f"/files/{wheel_name('tea')}"] = Answer(good)
    registry.page("tea", *files, told(wheel_name("tea"), good, f"{registry.url}/files/{wheel_name('tea')}"))
    lock = await resolved(packages_of(settings_for(registry)), "tea")
    assert [each.filename for each in lock.files] == [wheel_name("tea")]


async def test_an_old_index_without_hashes_is_read_for_them(registry: Registry) -> None:
    content = wheel("tea")
    registry.answers[f"/files/{wheel_name('tea')}"] = Answer(content)
    page = f'<a href="../../files/{wheel_name("tea")}" data-requires-python="&gt;=3.8">tea</a>'
    registry.answers["/simple/tea/"] = Answer(page.encode(), kind="text/html")
    lock = await resolved(packages_of(settings_for(registry)), "tea")
    assert lock.python[0].files[0].size == len(content)


async def test_a_wheel_that_is_not_what_its_index_says_is_refused_when_it_is_read(registry: Registry) -> None:
    content = wheel("tea")
    registry.answers[f"/files/{wheel_name('tea')}"] = Answer(content)
    page = f'<a href="../../files/{wheel_name("tea")}#sha256={"0" * 64}">tea</a>'
    registry.answers["/simple/tea/"] = Answer(page.encode(), kind="text/html")
    error = await refused(packages_of(settings_for(registry)), "tea")
    assert error.why is Why.HASH_DIFFERS


async def test_a_page_without_an_end_is_given_up(registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_module, "LARGEST_PAGE", 1024 * 1024)
    registry.answers["/simple/tea/"] = Answer(iter(lambda: bytes(65536), None), kind="text/html")
    error = await refused(packages_of(settings_for(registry)), "tea")
    assert (error.why, error.package) == (Why.TOO_LARGE, "tea")


@pytest.mark.parametrize(
    "page",
    [
        pytest.param(b"[" * 100_000, marks=pytest.mark.slow),
        pytest.param(b'{"files": 1}', marks=pytest.mark.slow),
        pytest.param(b"\xff", marks=pytest.mark.slow),
        json.dumps({"files": [1, {"url": 1}, {"url": "https://[", "filename": "x"}]}).encode(),
        json.dumps({"files": [{"url": "x", "filename": f"tea-1.0-{'.'.join('a' * 900)}-b-c.whl"}]}).encode(),
    ],
)
async def test_a_page_that_is_none_is_told(registry: Registry, page: bytes) -> None:
    registry.answers["/simple/tea/"] = Answer(page, kind="application/vnd.pypi.simple.v1+json")
    error = await refused(packages_of(settings_for(registry)), "tea")
    assert error.package == "tea"


async def test_an_index_on_the_web_cannot_name_files_of_this_machine(
    registry: Registry, tmp_path: Path
) -> None:
    path = tmp_path / wheel_name("tea")
    path.write_bytes(wheel("tea"))
    registry.page("tea", told(path.name, path.read_bytes(), path.as_uri()))
    error = await refused(packages_of(settings_for(registry)), "tea")
    assert "no registry of this machine holds" in error.message


async def test_indexes_and_wheels_of_this_machine_count_as_pip_has_them(
    registry: Registry, tmp_path: Path
) -> None:
    (tmp_path / "flat").mkdir()
    (tmp_path / "flat" / wheel_name("tea", "2.0")).write_bytes(wheel("tea", "2.0"))
    (tmp_path / "flat/notes.txt").write_text("no wheel")
    registry.offer("tea", "1.0")
    registries = Registries(
        python=(*registries_for(registry).python, RegistryAddress((tmp_path / "flat").as_uri(), flat=True)),
        merged=True,
    )
    packages = RegistryPackages(RegistrySettings(), ask=lambda _: registries)
    lock = await resolved(packages, "tea")
    assert [each.version for each in lock.python] == ["2.0"]
    assert [piece async for piece in packages.fetch(lock.files[0])] == [wheel("tea", "2.0")]


async def test_uv_can_be_where_only_root_may_go(
    registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "home").mkdir(mode=0o700)
    program = shutil.copy(uv_program(), tmp_path / "home/uv")
    monkeypatch.setattr(python_packages, "uv_program", lambda: program)
    before = set(Path(tempfile.gettempdir()).glob("ringfence-resolver-*"))
    registry.offer("tea")
    assert len((await resolved(packages_of(settings_for(registry)), "tea")).python) == 1
    assert set(Path(tempfile.gettempdir()).glob("ringfence-resolver-*")) <= before


async def test_a_requirement_that_names_an_address_is_refused(registry: Registry) -> None:
    error = await refused(packages_of(settings_for(registry)), f"tea @ {registry.url}/files/tea.whl")
    assert error.why is Why.NOT_ALLOWED
    assert registry.requests == []


async def test_the_gateway_serves_only_whom_it_was_made_for(registry: Registry) -> None:
    registry.offer("tea")
    client = RegistryClient(registries_for(registry))
    async with Gateway(client) as gateway, httpx.AsyncClient() as http:
        base = f"http://127.0.0.1:{gateway.port}"
        for path in ("/", "/pypi/tea/", "/x/pypi/tea/", "/x/file/0/tea.whl"):
            assert (await http.get(base + path)).status_code == 404
        assert registry.requests == []
        assert (await http.get(f"{gateway.python}tea/")).status_code == 200
        assert (await http.post(f"{gateway.python}tea/")).status_code == 404
        assert (await http.get(f"{gateway.python}../file/99/x")).status_code == 404
    await client.aclose()


async def test_the_gateway_asks_a_registry_once_for_a_package(registry: Registry) -> None:
    registry.offer("tea")
    client = RegistryClient(registries_for(registry))
    async with Gateway(client) as gateway, httpx.AsyncClient() as http:
        answers = await asyncio.gather(*(http.get(f"{gateway.python}tea/") for _ in range(5)))
    assert {each.status_code for each in answers} == {200}
    assert len(registry.asked_for("/simple/tea/")) == 1
    await client.aclose()
