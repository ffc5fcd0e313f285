"""Every route of the host and of the plugins that come with it asks who is there, and whether they may."""

from __future__ import annotations

import re
import uuid

import httpx
from ringfence.plugins.discovery import discover
from ringfence.testing import RunHost, client

RULE = "host.plugin.read"
OPEN_TO_ITS_HOLDERS = {
    ("GET", "/api/host/plugins"): 200,
    ("POST", "/api/host/sessions/links"): 201,
    ("POST", "/api/host/apply"): 422,
    ("GET", "/api/host/export"): 200,
    ("GET", "/api/host/schemas"): 200,
    ("GET", "/api/host/schemas/{kind}"): 404,
}
"""The first for its rule, and the others to every token: a link signs in with that very token, and each document needs
the rules of what it declares."""
SECRET_IN_ITS_ADDRESS = {
    ("POST", "/api/automations/hooks/{secret}"),
    ("POST", "/api/gitops/hooks/{secret}"),
}
"""Whoever knows the address may use the route, and nobody else finds anything there, whatever their token."""


async def test_each_route_is_closed_to_strangers_and_to_those_who_lack_its_rule(run_host: RunHost) -> None:
    host = await run_host(plugins=discover())
    described = {
        (method.upper(), path): operation
        for path, methods in host.app.openapi()["paths"].items()
        for method, operation in methods.items()
    }
    routes = list(described)
    assert ("POST", "/api/script-packages/sandbox-policy/revert") in routes
    assert ("GET", "/api/satellite/satellites/{id}") in routes
    transport = httpx.ASGITransport(app=host.app)
    async with (
        httpx.AsyncClient(transport=transport, base_url="http://test") as stranger,
        client(host, rules=[RULE]) as holder,
    ):
        for method, path in routes:
            address = re.sub(r"\{\w+\}", str(uuid.uuid4()), path)
            unknown = await stranger.request(method, address, json={})
            refused = await holder.request(method, address, json={})
            if (method, path) in SECRET_IN_ITS_ADDRESS:
                assert "security" not in described[method, path]
                assert (unknown.status_code, refused.status_code) == (404, 404), (method, path)
                continue
            assert unknown.status_code == 401, (method, path, unknown.text)
            expected = OPEN_TO_ITS_HOLDERS.get((method, path), 403)
            assert refused.status_code == expected, (method, path, refused.text)
            # The description says which rule it is.
            [security] = described[method, path]["security"]
            if expected == 403:
                assert security == {"token": [refused.json()["rule"]]}, (method, path)
            else:
                assert security == {"token": [RULE] if path == "/api/host/plugins" else []}, (method, path)
