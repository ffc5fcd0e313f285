"""Who may do what: tokens over HTTP, as the command line uses them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Annotated, Any

import httpx
import pytest
from fastapi import APIRouter, Depends
from ringfence import AccessRule, PluginContext, Registry
from ringfence.access import AccessError, digest
from ringfence.host import Host
from ringfence.testing import RunHost, client
from ringfence.web import Caller, Principal, require
from sqlalchemy import text

from tests.host.plugins import MadePlugin

TOKENS = "/api/host/tokens"


def guarded() -> MadePlugin:
    """A plugin with one route, which answers whoever holds `guarded.thing.read` with their own name."""
    rules: list[AccessRule] = []

    def declare(registry: Registry) -> None:
        rules.append(registry.access_rule("thing", "read", "Read the thing"))
        registry.access_rule("thing", "write", "Write the thing")

    async def serve(context: PluginContext) -> None:
        router = APIRouter()

        async def read(principal: Principal) -> dict[str, str]:
            return {"name": principal.name}

        read.__annotations__["principal"] = Annotated[Principal, Depends(require(rules[0]))]
        router.get("/thing")(read)
        context.web.router(router)

    return MadePlugin("guarded", register=declare, init=serve)


@pytest.fixture
async def host(run_host: RunHost) -> Host:
    return await run_host(plugins=[guarded()])


@pytest.fixture
async def admin(host: Host) -> AsyncIterator[httpx.AsyncClient]:
    async with client(host) as http:
        yield http


async def make(http: httpx.AsyncClient, name: str, *rules: str) -> dict[str, Any]:
    answer = await http.post(TOKENS, json={"name": name, "rules": list(rules)})
    assert answer.status_code == 201, answer.text
    return dict(answer.json())


@pytest.mark.parametrize(
    "header", [None, "", "Bearer", "Bearer ", "Basic cm9vdDpyb290", "Bearer rft_nobody", "rft_nobody"]
)
async def test_who_does_not_say_who_they_are_is_told_401(host: Host, header: str | None) -> None:
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app=host.app), base_url="http://test") as http:
        answer = await http.get(
            "/api/guarded/thing", headers={} if header is None else {"Authorization": header}
        )
    assert answer.status_code == 401
    assert answer.headers["www-authenticate"].startswith("Bearer ")
    assert answer.headers["content-type"] == "application/problem+json"


async def test_who_may_not_is_told_403_and_which_rule_is_missing(
    host: Host, admin: httpx.AsyncClient
) -> None:
    made = await make(admin, "writer", "guarded.thing.write")
    async with client(host, token=made["token"]) as writer:
        answer = await writer.get("/api/guarded/thing")
    assert answer.status_code == 403
    assert answer.json()["rule"] == "guarded.thing.read"
    assert "writer does not hold the access rule guarded.thing.read" in answer.json()["detail"]


async def test_who_holds_the_rule_is_let_in_under_their_own_name(
    host: Host, admin: httpx.AsyncClient
) -> None:
    made = await make(admin, "reader", "guarded.thing.read")
    async with client(host, token=made["token"]) as reader:
        assert (await reader.get("/api/guarded/thing")).json() == {"name": "reader"}


async def test_of_a_token_only_its_digest_is_kept(host: Host, admin: httpx.AsyncClient) -> None:
    secret = (await make(admin, "ci", "guarded.thing.read"))["token"]
    async with host.runtime.database.sessions() as session:
        rows = [
            tuple(row)
            for table in ("api_tokens", "events", "plugin_configs")
            for row in await session.execute(text(f"SELECT t::text, * FROM {table} t"))
        ]
    assert any(digest(secret) in row for row in rows)
    assert not any(secret in str(row) for row in rows)
    assert secret not in (await admin.get(TOKENS)).text, "shown once, and never again"


async def test_tokens_are_listed_with_what_they_hold_and_when_they_were_used(
    host: Host, admin: httpx.AsyncClient
) -> None:
    made = await make(admin, "ci", "guarded.thing.read", "guarded.thing.read", "guarded.thing.write")

    async def listed() -> dict[str, Any]:
        [ci] = [one for one in (await admin.get(TOKENS)).json()["tokens"] if one["name"] == "ci"]
        return dict(ci)

    before = await listed()
    assert before["id"] == made["id"]
    assert before["rules"] == ["guarded.thing.read", "guarded.thing.write"]
    assert before["createdBy"].startswith("admin-")
    assert before["lastUsedAt"] is None
    async with client(host, token=made["token"]) as ci:
        await ci.get("/api/guarded/thing")
    assert (await listed())["lastUsedAt"] is not None


@pytest.mark.parametrize("key", ["id", "name"])
async def test_a_revoked_token_is_nobodys_at_once(host: Host, admin: httpx.AsyncClient, key: str) -> None:
    made = await make(admin, "ci", "guarded.thing.read")
    async with client(host, token=made["token"]) as ci:
        assert (await ci.get("/api/guarded/thing")).status_code == 200
        assert (await admin.delete(f"{TOKENS}/{made[key]}")).status_code == 204
        assert (await ci.get("/api/guarded/thing")).status_code == 401
    again = await admin.delete(f"{TOKENS}/{made[key]}")
    assert again.status_code == 404
    await make(admin, "ci", "guarded.thing.read")


async def test_two_live_tokens_cannot_have_one_name(admin: httpx.AsyncClient) -> None:
    await make(admin, "ci", "guarded.thing.read")
    answer = await admin.post(TOKENS, json={"name": "ci", "rules": ["guarded.thing.read"]})
    assert answer.status_code == 409
    assert "revoke it first" in answer.json()["detail"]


async def test_nobody_hands_on_a_rule_that_they_do_not_hold(host: Host, admin: httpx.AsyncClient) -> None:
    made = await make(admin, "clerk", "host.token.manage", "guarded.thing.read")
    async with client(host, token=made["token"]) as clerk:
        refused = await clerk.post(
            TOKENS, json={"name": "x", "rules": ["guarded.thing.read", "guarded.thing.write"]}
        )
        assert refused.status_code == 422
        assert "clerk lacks: guarded.thing.write" in refused.json()["detail"]
        await make(clerk, "x", "guarded.thing.read")


@pytest.mark.parametrize(
    "body",
    [
        {"name": "x", "rules": ["guarded.thing.destroy"]},
        {"name": "already", "rules": ["guarded.already.read"]},
        {"name": "", "rules": ["guarded.thing.read"]},
        {"name": "a\nb", "rules": ["guarded.thing.read"]},
        {"name": "x", "rules": []},
        {"name": "x", "rules": ["*"]},
        {"name": "x"},
        {"name": "x", "rules": ["guarded.thing.read"], "admin": True},
    ],
)
async def test_a_token_that_cannot_be_made_is_refused(admin: httpx.AsyncClient, body: dict[str, Any]) -> None:
    answer = await admin.post(TOKENS, json=body)
    assert answer.status_code == 422
    assert answer.json()["detail"]


async def test_tokens_are_managed_only_by_who_holds_the_rule_for_it(
    host: Host, admin: httpx.AsyncClient
) -> None:
    everything_else = sorted(set(host.access.rules) - {"host.token.manage"})
    made = await make(admin, "almost", *everything_else)
    async with client(host, token=made["token"]) as almost:
        for answer in (
            await almost.get(TOKENS),
            await almost.post(TOKENS, json={"name": "x", "rules": everything_else[:1]}),
            await almost.delete(f"{TOKENS}/almost"),
            await almost.get("/api/host/rules"),
        ):
            assert answer.status_code == 403
            assert answer.json()["rule"] == "host.token.manage"


async def test_the_first_start_makes_an_admin_token_that_only_its_owner_can_read(host: Host) -> None:
    path = host.data_dir.admin_token_path
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.read_text().startswith("rft_")
    assert not list(host.data_dir.path.glob(".admin-token*")), "no draft is left lying about"


async def test_the_admin_token_is_kept_and_holds_every_rule_even_those_of_new_plugins(
    run_host: RunHost, host: Host, admin: httpx.AsyncClient
) -> None:
    secret = host.data_dir.admin_token_path.read_text()

    def declare(registry: Registry) -> None:
        registry.access_rule("thing", "do", "Do the thing")

    newcomer = MadePlugin("new", register=declare)
    again = await run_host(plugins=[newcomer], data_dir=host.data_dir.path)
    assert again.data_dir.admin_token_path.read_text() == secret
    principal = await again.access.authenticate(secret.strip())
    assert principal is not None
    assert principal.rules >= {"new.thing.do", "guarded.thing.read", "host.token.manage"}


async def test_a_revoked_admin_token_stays_revoked_when_the_host_starts_again(
    run_host: RunHost, host: Host, admin: httpx.AsyncClient
) -> None:
    [mine] = (await admin.get(TOKENS)).json()["tokens"]
    await make(admin, "second", "host.token.manage")
    assert (await admin.delete(f"{TOKENS}/{mine['id']}")).status_code == 204
    again = await run_host(plugins=[guarded()], data_dir=host.data_dir.path)
    async with client(again) as http:
        assert (await http.get(TOKENS)).status_code == 401


async def test_instances_with_directories_of_their_own_have_admins_of_their_own(
    run_host: RunHost, host: Host
) -> None:
    other = await run_host(plugins=[guarded()])
    assert (
        other.data_dir.admin_token_path.read_text().strip()
        != host.data_dir.admin_token_path.read_text().strip()
    )
    async with client(host) as here, client(other) as there:
        assert (await here.get(TOKENS)).status_code == (await there.get(TOKENS)).status_code == 200
        assert len((await here.get(TOKENS)).json()["tokens"]) == 2


@pytest.mark.parametrize("word", ["", "Upper", "with.dot", "with space", "*"])
def test_the_words_of_a_rule_are_lower_case_words_joined_by_hyphens(word: str) -> None:
    with pytest.raises(AccessError, match="lower-case words"):
        AccessRule("guarded", word, "read", "x")


async def test_a_route_that_asks_for_a_rule_that_nobody_declares_is_a_fault_and_no_403(
    run_host: RunHost,
) -> None:
    async def serve(context: PluginContext) -> None:
        router = APIRouter(dependencies=[Depends(require("guarded.thing.raed"))])

        @router.get("/thing")
        async def read() -> None: ...

        context.web.router(router)

    host = await run_host(plugins=[MadePlugin("guarded", init=serve)])
    async with client(host) as http:
        with pytest.raises(
            AccessError, match=r"the access rule guarded\.thing\.raed, which no plugin declares"
        ):
            await http.get("/api/guarded/thing")
    async with client(host, token="rft_nobody") as stranger:
        assert (await stranger.get("/api/guarded/thing")).status_code == 401


async def test_a_guarded_router_lets_in_who_holds_the_rule_and_says_who_that_is(run_host: RunHost) -> None:
    async def name(caller: Caller) -> str:
        return caller.name

    async def secret() -> str:
        return "swordfish"

    def declare(registry: Registry) -> None:
        router = registry.guarded_router(registry.access_rule("thing", "read", "Read the thing"))
        router.get("/name")(name)
        router.get("/secret")(secret)

    async def serve(context: PluginContext) -> None:
        rule = AccessRule("guarded", "thing", "read", "Read the thing")
        context.web.guarded_router(rule).get("/late")(name)

    host = await run_host(plugins=[MadePlugin("guarded", register=declare, init=serve)])
    async with client(host, rules=()) as stranger, client(host, token="rft_nobody") as nobody:
        for path in ("name", "secret", "late"):
            assert (await stranger.get(f"/api/guarded/{path}")).status_code == 403
            assert (await nobody.get(f"/api/guarded/{path}")).status_code == 401
    async with client(host, name="ann", rules=["guarded.thing.read"]) as ann:
        answers = [(await ann.get(f"/api/guarded/{path}")).json() for path in ("name", "secret", "late")]
        assert answers == ["ann", "swordfish", "ann"]


async def test_who_calls_an_unguarded_route_is_nobody(run_host: RunHost) -> None:
    async def name(caller: Caller) -> str:
        return caller.name

    async def serve(context: PluginContext) -> None:
        router = APIRouter()
        router.get("/name")(name)
        context.web.router(router)

    host = await run_host(plugins=[MadePlugin("open", init=serve)])
    async with client(host) as http:
        with pytest.raises(AccessError, match="no access rule guards it"):
            await http.get("/api/open/name")
