"""A host with the policy alone, and forms as a browser fills them in."""

from __future__ import annotations

import html
import re
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from ringfence.host import Host
from ringfence.testing import RunHost, client
from ringfence_script_packages import previewing
from ringfence_script_packages.pages.entered import settings
from ringfence_script_packages.plugin import ScriptPackagesPlugin

from tests.pages.conftest import Browser
from tests.sandbox.hosts import linux

POLICY = "/api/script-packages/sandbox-policy"


@pytest.fixture
async def host(run_host: RunHost, monkeypatch: pytest.MonkeyPatch) -> Host:
    monkeypatch.setattr(previewing, "probe", linux)
    return await run_host(plugins=[ScriptPackagesPlugin()])


@pytest.fixture
async def http(host: Host) -> AsyncIterator[httpx.AsyncClient]:
    async with client(host) as http:
        yield http


def form_in(page: str) -> dict[str, str]:
    """The fields of the policy's form, as a browser would send them untouched."""
    found: dict[str, str] = {}
    form = page[page.index('id="policy-form"') :]
    form = form[: form.index("</form>")]
    for tag in re.findall(r"<input [^>]*>", form):
        name, value = re.search(r' name="([^"]+)"', tag), re.search(r' value="([^"]*)"', tag)
        if name and ('type="checkbox"' not in tag or " checked" in tag):
            found[name[1]] = html.unescape(value[1] if value else "")
    for name, body in re.findall(r'<select [^>]*name="([^"]+)"[^>]*>(.*?)</select>', form, re.DOTALL):
        chosen = re.search(r'<option value="([^"]*)" selected', body)
        assert chosen, name
        found[name] = html.unescape(chosen[1])
    for name, body in re.findall(r'<textarea [^>]*name="([^"]+)"[^>]*>\n(.*?)</textarea>', form, re.DOTALL):
        found[name] = html.unescape(body)
    return found


async def form_of(browser: Browser, path: str = "/policy") -> dict[str, str]:
    """The form as it is loaded now."""
    answer = await browser.get(path)
    assert answer.status_code == 200
    return form_in(answer.text)


async def sent(
    browser: Browser, fields: dict[str, str], to: str = "/policy", **changed: str
) -> httpx.Response:
    """Send a form with some fields changed: `network__mode` is `network.mode`."""
    return await browser.post(
        to, {**fields, **{key.replace("__", "."): value for key, value in changed.items()}}
    )


async def policy_now(http: httpx.AsyncClient) -> dict[str, Any]:
    return dict((await http.get(POLICY, headers={"cache-control": "no-cache"})).json())


def every_path() -> set[str]:
    return set(settings())
