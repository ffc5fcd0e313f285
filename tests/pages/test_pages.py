"""What every page keeps to: who sees it, what it shows of others' words, and what it is sent with."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import Response
from fastapi.responses import JSONResponse
from pydantic import BaseModel
from ringfence import Hook, PluginContext, PluginInfo, Registry, hookimpl
from ringfence.host import Host
from ringfence.pages import (
    Action,
    Again,
    Attention,
    Command,
    Count,
    Data,
    Found,
    Page,
    Pages,
    Panel,
    Redirect,
    View,
)
from ringfence.pages.live import MOST_PER_SESSION, Feed
from ringfence.testing import RunHost, client, served
from ringfence.web import Problem

from tests.pages.conftest import Browse, admin_token

HOSTILE = [
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "' autofocus onfocus=alert(1) x='",
    "</textarea></pre></bdi><h1>mine</h1>",
    "{{ 7777777 * 3 }}{% raw %}",
    "&lt;b&gt; &amp;amp;",
    "invoice\u202efdp.exe",
    "a\u200bb\u2066c\ufeff",
    "bell\x07 line\u2028end",
    "\U0001f9ea\U0001f468\u200d\U0001f52c",
    "x" * 10_000,
]


class Fact(BaseModel):
    word: str


thing_happened = Hook("thing-happened", Fact)


class ShownPlugin:
    """A plugin with a page, a panel on it, and forms."""

    info = PluginInfo(id="shown", version="1.0", optional=True)

    def __init__(self, *, words: str = "hello", declared: Pages | None = None) -> None:
        self.words = words
        self.declared = declared

    @hookimpl
    def register(self, registry: Registry) -> None:
        self.read = registry.access_rule("thing", "read", "See things")
        self.write = registry.access_rule("thing", "write", "Change things")
        registry.hook(thing_happened)

    @hookimpl
    async def init(self, context: PluginContext) -> None:
        self.context = context

    @hookimpl
    def pages(self) -> Pages:
        return self.declared or Pages(
            package="tests.pages.shown",
            pages=[
                Page(
                    path="/things",
                    title="Things",
                    template="thing.html",
                    show=self.show,
                    rule=self.read,
                    group="Things",
                ),
                Page(
                    path="/things/{id}", title="Thing", template="thing.html", show=self.show, rule=self.read
                ),
                Page(
                    path="/things/new",
                    title="New thing",
                    template="thing.html",
                    show=self.show,
                    rule=self.write,
                ),
                Page(path="/broken", title="Broken", template="thing.html", show=self.fail),
            ],
            panels=[
                Panel(
                    name="secret",
                    on="/things/{id}",
                    title="Only for writers",
                    template="thing.html",
                    show=self.show,
                    rule=self.write,
                    live=["thing-happened"],
                )
            ],
            actions=[Action(path="/things/{id}/rename", title="Rename", do=self.rename, rule=self.write)],
            commands=[
                Command("Deny all things", "/things", self.write),
                Command("Rename <7>", "/things/7/rename", form={"to": "x"}, ask="Rename it?", key="r s"),
            ],
            data=[Data(path="/things/{id}/numbers", answer=self.numbers, rule=self.read)],
            attention=self.attention,
            counts=self.counts,
            find=self.find,
        )

    async def numbers(self, view: View) -> Response:
        if view.parameters["id"] != "7":
            raise Problem(404, detail="There is no such thing.")
        return JSONResponse({"times": [1], "after": view.last_event_id})

    async def attention(self, view: View) -> Sequence[Attention]:
        if view.may(self.write):
            return [Attention("A <thing> is late.", "/things", "warn"), Attention("It burns.", weight=60)]
        raise RuntimeError("a secret of the code")

    async def counts(self, view: View) -> Sequence[Count]:
        return [Count("things", 7, "kg", "/things", [0, 1.5, 3])] if view.may(self.read) else []

    async def find(self, view: View, words: str) -> Sequence[Found]:
        found = [Found(f"{words} {number}", f"/things/{number}", "thing") for number in range(20)]
        return [Found(words, "https://evil.test", "thing"), *found] if view.may(self.read) else []

    async def show(self, view: View) -> Mapping[str, Any]:
        id = view.parameters.get("id", "")
        return {"words": self.words, "id": id, "named": id}

    async def fail(self, view: View) -> Mapping[str, Any]:
        if view.query.get("how") == "gone":
            raise Problem(404, detail="This thing is gone.")
        raise RuntimeError("a secret of the code")

    async def rename(self, view: View) -> Redirect | Again:
        if not view.form.get("to"):
            return Again("thing.html", {"words": "Say to what.", "id": ""})
        return Redirect("/things", f"It is called {view.form['to']} now.")


@pytest.fixture
async def host(run_host: RunHost) -> Host:
    return await run_host(plugins=[ShownPlugin()])


READ = ["shown.thing.read"]
WRITE = ["shown.thing.read", "shown.thing.write"]


async def test_what_one_may_not_see_is_not_shown_and_refused_all_the_same(host: Host, browse: Browse) -> None:
    reader, writer, nobody = [
        await browse(host, rules=rules) for rules in (READ, WRITE, ["host.plugin.read"])
    ]
    assert "Only for writers" in (await writer.get("/things/7")).text
    assert "Deny all things" in (await writer.get("/things")).text
    page = (await reader.get("/things/7")).text
    assert "Only for writers" not in page
    assert "Deny all things" not in page
    assert (await reader.get("/things/new")).status_code == 403
    assert (await reader.get("/things/7?fragment=shown.secret")).status_code == 404
    assert (await reader.act("/things/7/rename", to="x")).status_code == 403
    assert 'href="/things"' not in (await nobody.get("/")).text
    assert (await nobody.get("/things")).status_code == 403


async def test_the_overview_shows_each_plugins_share_and_the_rest_if_one_fails(
    host: Host, browse: Browse
) -> None:
    writer, reader = await browse(host, rules=WRITE), await browse(host, rules=READ)
    page = (await writer.get("/")).text
    assert page.index("It burns.") < page.index("A &lt;thing&gt; is late.")
    assert re.search('<a href="/things"><bdi>things</bdi></a></dt>\\s*<dd>7 <small>kg</small>', page)
    assert "things, the last hour: 0, 1.5, 3" in page
    other = (await reader.get("/")).text
    assert "It burns." not in other
    assert "secret of the code" not in other
    assert "things, the last hour" in other


async def test_the_palette_finds_what_one_may_see_and_leads_nowhere_else(host: Host, browse: Browse) -> None:
    reader, nobody = await browse(host, rules=READ), await browse(host, rules=["host.plugin.read"])
    found = (await reader.get("/find?q=%3Cb%3E")).json()["found"]
    assert found[0] == {"words": "<b> 0", "to": "/things/0", "kind": "thing"}
    assert [one["to"] for one in found] == [f"/things/{number}" for number in range(10)]
    for answer in (await nobody.get("/find?q=x"), await reader.get("/find"), await reader.get("/find?q=%20")):
        assert answer.json() == {"found": []}
    stranger = await browse(host, signed_in=False)
    assert (await stranger.get("/find?q=x")).status_code == 401


async def test_commands_that_change_something_are_offered_to_who_may_and_ask(
    host: Host, browse: Browse
) -> None:
    writer, reader = await browse(host, rules=WRITE), await browse(host, rules=READ)
    assert (
        '<form method="post" action="/things/7/rename" data-ask="Rename it?">' in (await writer.get("/")).text
    )
    assert "Rename &lt;7&gt;" not in (await reader.get("/")).text


async def test_data_of_pages_are_for_who_may_see_them(host: Host, browse: Browse) -> None:
    reader, nobody = await browse(host, rules=READ), await browse(host, rules=["host.plugin.read"])
    answer = await reader.get("/things/7/numbers", **{"last-event-id": "5"})
    assert answer.json() == {"times": [1], "after": "5"}
    assert answer.headers["cache-control"] == "no-store"
    assert "default-src 'none'" in answer.headers["content-security-policy"]
    refused = await nobody.get("/things/7/numbers")
    assert (refused.status_code, refused.headers["content-type"]) == (403, "application/problem+json")
    assert (await reader.get("/things/8/numbers")).json()["detail"] == "There is no such thing."
    assert (await (await browse(host, signed_in=False)).get("/things/7/numbers")).status_code == 401


async def test_words_in_a_path_come_before_names(host: Host, browse: Browse) -> None:
    writer = await browse(host, rules=WRITE)
    assert "<h1>New thing</h1>" in (await writer.get("/things/new")).text
    assert "<h1>Thing</h1>" in (await writer.get("/things/newer")).text


async def test_a_tab_is_named_after_what_it_shows_and_the_navigation_says_where_that_belongs(
    host: Host, browse: Browse
) -> None:
    writer = await browse(host, rules=WRITE)
    one, all = (await writer.get("/things/<b>7")).text, (await writer.get("/things")).text
    assert "<title>&lt;b&gt;7 · Thing · Ringfence</title>" in one
    assert 'href="/things" aria-current="true"' in one
    assert "<title>Things · Ringfence</title>" in all
    assert 'href="/things" aria-current="page"' in all
    assert all.count("aria-current") == 1


async def test_a_form_tells_what_is_wrong_and_then_what_was_done_once(host: Host, browse: Browse) -> None:
    writer = await browse(host, rules=WRITE)
    wrong = await writer.act("/things/7/rename")
    assert wrong.status_code == 422
    assert "Say to what." in wrong.text
    assert (await writer.act("/things/7/rename", to="<i>")).headers["location"] == "/things"
    assert "It is called &lt;i&gt; now." in (await writer.get("/things")).text
    assert "It is called" not in (await writer.get("/things")).text


async def test_others_words_are_shown_as_text(host: Host, browse: Browse) -> None:
    plugin, browser = host.plugins[0].plugin, await browse(host)
    assert isinstance(plugin, ShownPlugin)
    async with client(host) as admin:
        for words in HOSTILE:
            plugin.words = words
            await admin.post("/api/host/tokens", json={"name": words[:200], "rules": READ})
            searched = await browser.http.get("/events", params={"stream": words})
            for answer in (await browser.get("/things"), searched, await browser.get("/tokens")):
                assert answer.status_code == 200
                page = re.sub(r'(hx-get|value)="[^"]*"', "", answer.text)
                assert not re.search(r"<(script>|img|h1>mine)|onerror=alert\(1\)>|23333331", page), words
                assert not re.search("[\u200b\u2028\u202e\u2066\ufeff\x07]", answer.text), words
                assert "x" * 300 not in page


async def test_every_answer_lets_a_browser_load_and_frame_nothing_of_others(
    host: Host, browse: Browse
) -> None:
    browser, stranger = await browse(host), await browse(host, signed_in=False)
    answers = [
        await browser.get("/"),
        await browser.get("/things"),
        await browser.get("/broken"),
        await browser.get("/nowhere"),
        await browser.get("/things/7?fragment=shown.secret"),
        await browser.act("/things/7/rename"),
        await stranger.get("/sign-in"),
        await stranger.get("/"),
        await stranger.get("/", host="evil.test"),
    ]
    for answer in answers:
        policy = answer.headers["content-security-policy"]
        assert policy.startswith("default-src 'none'; ")
        assert "unsafe" not in policy
        assert "*" not in policy
        assert "frame-ancestors 'none'" in policy
        assert answer.headers["cache-control"] == "no-store"
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert not re.search(r"<style|<script(?! src=\"/assets/)| style=| on[a-z]+=|https?://", answer.text)


async def test_the_apis_documentation_is_a_page_that_needs_nothing_from_elsewhere(
    host: Host, browse: Browse
) -> None:
    answer = await (await browse(host, signed_in=False)).get("/api/docs")
    assert answer.status_code == 200
    assert "<code>POST /api/host/tokens</code>" in answer.text
    assert "default-src 'none'" in answer.headers["content-security-policy"]
    assert not re.search(r"(src|href)=\"(?!/|#)", answer.text)
    for name in re.findall('href="#schema-([^"]+)"', answer.text):
        assert f'id="schema-{name}"' in answer.text


async def test_what_goes_wrong_is_told_in_words_and_without_what_is_inside(
    host: Host, browse: Browse, capsys: pytest.CaptureFixture[str]
) -> None:
    browser = await browse(host)
    gone = await browser.get("/broken?how=gone")
    assert (gone.status_code, "This thing is gone." in gone.text) == (404, True)
    broken = await browser.get("/broken")
    assert broken.status_code == 500
    assert "a secret of the code" not in broken.text
    reference = re.search("<code>([0-9a-f]{8})</code>", broken.text)
    assert reference is not None
    assert reference[1] in capsys.readouterr().out
    nowhere = await browser.get("/nowhere")
    assert (nowhere.status_code, "There is no such page." in nowhere.text) == (404, True)
    assert (await browser.get("/things?after=%00")).status_code == 422
    api = await browser.get("/api/nowhere")
    assert api.headers["content-type"] == "application/problem+json"


async def test_a_slash_too_many_leads_to_this_host_whatever_name_it_was_asked_by(
    host: Host, browse: Browse
) -> None:
    browser = await browse(host)
    for path, to in {
        "/things/?q=1&x=%2F": "/things?q=1&x=%2F",
        "/things/a%20b/": "/things/a%20b",
        "/api/host/plugins/": "/api/host/plugins",
    }.items():
        answer = await browser.get(path, **{"host": "evil.test", "x-forwarded-host": "evil.test"})
        assert (answer.status_code, answer.headers["location"]) == (307, to)
    for path in ("//evil.test/", "//things/", "/%5Cevil.test/", "/nowhere/", "/"):
        answer = await browser.http.get(f"http://127.0.0.1:8484{path}")
        assert answer.status_code in (200, 404), path
        assert "location" not in answer.headers


async def test_assets_are_kept_for_ever_and_sent_small(host: Host, browse: Browse) -> None:
    browser = await browse(host, signed_in=False)
    page = (await browser.get("/sign-in")).text
    for path in re.findall(r'(?:href|src)="(/assets/[^"]+[.](?:css|js))"', page):
        sizes = []
        for encoding in ("identity", "gzip"):
            answer = await browser.get(path, **{"accept-encoding": encoding})
            assert answer.headers["cache-control"] == "public, max-age=31536000, immutable"
            sizes.append(int(answer.headers["content-length"]))
        assert sizes[1] < sizes[0] / 2
    for path in ("/assets/manifest.json", "/assets/..%2fown.py", "/assets/x"):
        assert (await browser.get(path)).status_code == 404


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"pages": [{"path": "/api/x"}]}, "host's own"),
        ({"pages": [{"path": "/Things"}]}, "lower-case"),
        ({"pages": [{"path": "/a/{x}"}, {"path": "/a/{y}"}]}, "already"),
        ({"pages": [{"path": "/a", "rule": "no.such.rule"}]}, "no plugin declares"),
        ({"pages": [{"path": "/a", "template": "none.html"}]}, "none.html"),
        ({"pages": [{"path": "/find"}]}, "host's own"),
        ({"commands": [Command("A", "/a", form={})]}, "no action's path"),
        ({"commands": [Command("A", "/a", key="A")]}, "letters"),
        ({"commands": [Command("A", "/a", key="a"), Command("B", "/a", key="a")]}, "taken"),
        ({"package": "tests"}, "no folder templates"),
    ],
    ids=lambda value: str(value)[:40],
)
async def test_pages_that_cannot_be_shown_leave_their_plugin_out(
    run_host: RunHost, change: dict[str, Any], why: str
) -> None:
    plugin = ShownPlugin()
    pages = [
        Page(**{"title": "A", "template": "thing.html", "show": plugin.show, **one})
        for one in change.get("pages", ())
    ]
    package = change.get("package", "tests.pages.shown")
    plugin.declared = Pages(package=package, pages=pages, commands=change.get("commands", ()))
    host = await run_host(plugins=[plugin], may_fail=True)
    [loaded] = host.plugins
    assert loaded.error is not None
    assert why in loaded.error


async def messages(answer: httpx.Response) -> AsyncIterator[dict[str, str]]:
    found: dict[str, str] = {}
    async for line in answer.aiter_lines():
        if not line:
            if "event" in found:
                yield found
            found = {}
        elif not line.startswith(":"):
            key, _, value = line.partition(": ")
            found[key] = value


async def test_an_open_page_hears_which_of_its_parts_changed_and_goes_on_where_it_was_cut(
    host: Host, browse: Browse
) -> None:
    plugin = host.plugins[0].plugin
    assert isinstance(plugin, ShownPlugin)

    async def happen() -> None:
        await plugin.context.emit_hook(thing_happened, Fact(word="now"), standalone=True)

    async with served(host) as url, httpx.AsyncClient(base_url=url, headers={"origin": url}) as http:
        await http.post("/sign-in", data={"token": admin_token(host)})
        watch = {"watch": ["shown.secret", "/things", "no.such"]}
        async with asyncio.timeout(30), http.stream("GET", "/live", params=watch) as answer:
            heard = messages(answer)
            first = asyncio.ensure_future(anext(heard))
            while not first.done():
                await happen()
                await asyncio.wait([first], timeout=0.05)
            assert (await first)["data"] == "shown.secret"
            last = (await first)["id"]
        await happen()
        for known in ({"last-event-id": last}, {}):
            params = {**watch, "after": "0" if known else last}
            async with (
                asyncio.timeout(30),
                http.stream("GET", "/live", params=params, headers=known) as answer,
            ):
                again = await anext(messages(answer))
                assert again["data"] == "shown.secret"
                assert int(again["id"]) > int(last)


async def test_an_open_page_hears_nothing_that_its_token_may_not_see_and_ends_with_it(
    host: Host, browse: Browse
) -> None:
    plugin = host.plugins[0].plugin
    assert isinstance(plugin, ShownPlugin)
    async with client(host) as admin:
        rules = [*READ, "host.plugin.read"]
        secret = (await admin.post("/api/host/tokens", json={"name": "ann", "rules": rules})).json()["token"]
        async with (
            served(host) as url,
            httpx.AsyncClient(base_url=url, headers={"origin": url}, timeout=30) as http,
        ):
            await http.post("/sign-in", data={"token": secret})
            watch = {"watch": ["shown.secret"], "after": "0"}
            async with asyncio.timeout(30), http.stream("GET", "/live", params=watch) as answer:
                heard = messages(answer)
                await plugin.context.emit_hook(thing_happened, Fact(word="now"), standalone=True)
                await admin.delete("/api/host/tokens/ann")
                await plugin.context.emit_hook(thing_happened, Fact(word="now"), standalone=True)
                assert (await anext(heard))["event"] == "ended"
            assert (await http.get("/live")).status_code == 401


async def test_open_pages_are_let_go_when_the_instance_drains(host: Host) -> None:
    async with served(host) as url, httpx.AsyncClient(base_url=url, headers={"origin": url}) as http:
        await http.post("/sign-in", data={"token": admin_token(host)})
        async with asyncio.timeout(8), http.stream("GET", "/live") as answer:
            lines = answer.aiter_lines()
            assert (await anext(lines)).startswith("retry:")
            host.runtime.drain.ask()
            assert [line async for line in lines if line and not line.startswith(":")] == []


async def test_one_session_has_only_so_many_open_pages(host: Host) -> None:
    feed = Feed(host.runtime)
    with ExitStack() as pages:
        for _ in range(MOST_PER_SESSION):
            feed.check_room("one", "token")
            pages.enter_context(feed.place("one", "token"))
        with pytest.raises(Problem):
            feed.check_room("one", "token")
        feed.check_room("another", "token")
    feed.check_room("one", "token")


def test_nothing_of_others_is_kept_here() -> None:
    lock = (Path(__file__).parents[2] / "host/ringfence/pages/ui/package-lock.json").read_text()
    assert "resolved" not in lock
    assert "://" not in lock
    assert lock.count('"integrity": "sha512-') == lock.count('"node_modules/')
