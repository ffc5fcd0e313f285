"""The pages of secrets: names, uses and times, and a value in no answer."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import pytest
from ringfence import PluginContext, PluginInfo, hookimpl
from ringfence.host import Host
from ringfence.testing import RunHost
from ringfence_secrets.plugin import SecretsPlugin
from ringfence_secrets.service import Secrets, SecretStore, SecretUser

from tests.pages.conftest import Browse, Browser

VALUE = "correct horse battery staple"
MANAGE = ["secrets.secret.manage"]


class Using:
    """A plugin with things that use secrets, one of them hostile in name, and perhaps a store of its own."""

    info = PluginInfo(id="using", version="1", requires=("secrets",))
    secrets: Secrets

    def __init__(self, *, has_store: bool = False) -> None:
        self.has_store = has_store

    async def using(self, name: str) -> Sequence[str]:
        return ["check <i>disk</i>\u202e", "check web"] if name == "API_TOKEN" else []

    async def used(self) -> Mapping[str, int]:
        return {"API_TOKEN": 2, "GONE": 1}

    async def get(self, names: object) -> Mapping[str, str]:
        return {}

    @hookimpl
    async def init(self, context: PluginContext) -> None:
        context.services.extend(SecretUser, self)
        if self.has_store:
            context.services.extend(SecretStore, self)

    @hookimpl
    async def after_plugins_ready(self, context: PluginContext) -> None:
        self.secrets = context.services.get(Secrets)


@pytest.fixture
async def using() -> Using:
    return Using()


@pytest.fixture
async def host(run_host: RunHost, using: Using) -> Host:
    return await run_host(plugins=[SecretsPlugin(), using])


async def set_secret(browser: Browser, name: str, value: str = VALUE) -> None:
    answer = await browser.act("/secrets", name=name, value=value)
    assert (answer.status_code, answer.headers["location"]) == (303, "/secrets"), answer.text


async def test_a_secret_is_set_rotated_and_deleted_and_its_value_is_in_no_answer(
    host: Host, using: Using, browse: Browse
) -> None:
    browser = await browse(host)
    answers = [await browser.get("/secrets")]
    assert "No secrets yet." in answers[0].text
    await set_secret(browser, "API_TOKEN")
    answers.append(await browser.get("/secrets"))
    assert "API_TOKEN is set." in answers[-1].text
    assert "2 things" in answers[-1].text
    answers.append(await browser.get("/secrets/API_TOKEN"))
    assert "check &lt;i&gt;disk&lt;/i&gt;\\u202e" in answers[-1].text
    assert "Without it, these cannot run: check &lt;i&gt;disk" in answers[-1].text
    key = "first line\r\nsecond line\r\n"
    answers.append(await browser.act("/secrets/API_TOKEN/set", value="", lines=key))
    assert await using.secrets.get(["API_TOKEN"]) == {"API_TOKEN": "first line\nsecond line\n"}
    answers.append(await browser.get("/secrets/API_TOKEN"))
    assert "API_TOKEN has a new value" in answers[-1].text
    answers.append(await browser.act("/secrets/reseal"))
    answers.append(await browser.act("/secrets/API_TOKEN/delete"))
    assert answers[-1].headers["location"] == "/secrets"
    assert (await browser.get("/secrets/API_TOKEN")).status_code == 404
    for answer in answers:
        for part in (VALUE, "first line", "second line"):
            assert part not in answer.text + str(answer.headers)


WRONG: list[tuple[dict[str, str], str, str]] = [
    ({"name": "API_TOKEN", "value": "tiny"}, "value", "a secret has 6 to 32768 characters"),
    ({"name": "API_TOKEN", "value": f"{VALUE}{'x' * 40_000}"}, "value", "a secret has 6 to 32768"),
    ({"name": "API_TOKEN", "value": ""}, "value", "a secret has 6 to 32768 characters"),
    ({"name": "API_TOKEN", "value": VALUE, "lines": VALUE}, "value", "Enter the value in one of the two"),
    ({"name": "two words", "value": VALUE}, "name", "not a valid name"),
    ({"name": "LD_PRELOAD", "value": VALUE}, "name", "not a valid name"),
    ({"name": VALUE, "value": VALUE}, "name", "not a valid name"),
    ({"value": VALUE}, "name", "not a valid name"),
]


async def test_what_is_wrong_stands_beside_the_field_without_the_value(host: Host, browse: Browse) -> None:
    browser = await browse(host)
    for form, field, said in WRONG:
        answer = await browser.act("/secrets", **form)
        assert answer.status_code == 422
        assert re.search(f'<p class="error" id="error-{field}">[^<]*{re.escape(said)}', answer.text), form
        for part in (VALUE, "tiny", "LD_PRELOAD", "two words"):
            assert part not in answer.text, form
        assert ('value="API_TOKEN"' in answer.text) is (field == "value")
    assert "No secrets yet." in (await browser.get("/secrets")).text


async def test_a_field_that_cannot_be_stored_is_refused_without_being_repeated(
    host: Host, browse: Browse
) -> None:
    browser = await browse(host)
    answer = await browser.act("/secrets", name="API_TOKEN", value=f"{VALUE}\0")
    assert (answer.status_code, VALUE in answer.text) == (422, False)


async def test_a_secret_that_is_used_and_missing_is_told_of_first(host: Host, browse: Browse) -> None:
    browser, nobody = await browse(host), await browse(host, rules=["host.plugin.read"])
    await set_secret(browser, "API_TOKEN")
    assert "GONE</bdi> does not exist, and 1 thing uses it" in (await browser.get("/secrets")).text
    assert "Secrets: GONE: used, and missing." in (await browser.get("/")).text
    assert "GONE" not in (await nobody.get("/")).text
    await set_secret(browser, "GONE")
    assert "does not exist" not in (await browser.get("/secrets")).text


async def test_where_a_plugin_has_a_store_nothing_is_said_to_be_missing(
    run_host: RunHost, browse: Browse
) -> None:
    host = await run_host(plugins=[SecretsPlugin(), Using(has_store=True)])
    page = (await (await browse(host)).get("/secrets")).text
    assert "does not exist" not in page
    assert "A plugin also provides secrets" in page


async def test_only_who_may_manage_secrets_sees_or_changes_anything(host: Host, browse: Browse) -> None:
    manager, other = await browse(host, rules=MANAGE), await browse(host, rules=["secrets.secret.use"])
    await set_secret(manager, "API_TOKEN")
    assert 'href="/secrets"' in (await manager.get("/")).text
    assert 'href="/secrets"' not in (await other.get("/")).text
    for path in ("/secrets", "/secrets/API_TOKEN"):
        answer = await other.get(path)
        assert (answer.status_code, "API_TOKEN" in answer.text.replace(path, "")) == (403, False)
    for path in ("/secrets", "/secrets/API_TOKEN/set", "/secrets/API_TOKEN/delete", "/secrets/reseal"):
        assert (await other.act(path, name="API_TOKEN", value="another value")).status_code == 403
        assert (await manager.post(path, {"name": "API_TOKEN", "value": "another value"})).status_code == 403
    assert (await other.get("/find?q=API")).text.find("API_TOKEN") == -1
    assert "API_TOKEN" in (await manager.get("/find?q=api_t")).text


async def test_secrets_are_searched_and_paged(host: Host, browse: Browse) -> None:
    browser = await browse(host)
    for name in ("ALPHA_ONE", "alpha-two", "BETA_ONE"):
        await set_secret(browser, name)
    await browser.get("/secrets")
    found = (await browser.get("/secrets?q=ALPHA")).text
    assert ("ALPHA_ONE" in found, "alpha-two" in found, "BETA_ONE" in found) == (True, True, False)
    assert "BETA_ONE" in (await browser.get("/secrets?after=ALPHA_ONE")).text
    assert "No secret has this in its name." in (await browser.get("/secrets?q=%3Cb%3E")).text
