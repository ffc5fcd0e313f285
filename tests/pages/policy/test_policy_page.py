"""The policy as a form and as JSON: who sees it, what is wrong with it in place, what it would do, and saving it."""

from __future__ import annotations

import json
import re

import httpx
from ringfence.host import Host
from ringfence.sandbox.policy import DEFAULT_POLICY, SandboxPolicy

from tests.pages.conftest import Browse
from tests.pages.policy.conftest import POLICY, every_path, form_in, form_of, policy_now, sent
from tests.pages.test_pages import HOSTILE

RULE = "script-packages.script-sandbox.manage"
PAGES = ("/policy", "/policy/history", "/policy/history/0", "/policy/revert", "/policy/schema")
FORMS = (
    "/policy",
    "/policy/preview",
    "/policy/merge",
    "/policy/deny-network",
    "/policy/revert",
    "/policy/verify",
)


async def test_the_policy_is_shown_to_who_may_change_it_and_to_nobody_else(
    host: Host, browse: Browse, http: httpx.AsyncClient
) -> None:
    admin, holder = await browse(host), await browse(host, rules=[RULE])
    others = [
        await browse(host, rules=[rule]) for rule in ("script-packages.package.read", "host.plugin.read")
    ]
    for path in PAGES:
        assert (await admin.get(path)).status_code == (await holder.get(path)).status_code == 200, path
        for other in others:
            assert (await other.get(path)).status_code == 403, path
    for other in others:
        front = (await other.get("/")).text
        assert 'href="/policy"' not in front
        assert "Deny all network" not in front
        assert "policy revision" not in front
        for path in FORMS:
            assert (await other.act(path, go="yes")).status_code == 403, path
        assert (await other.get("/find?q=network")).text.find("/policy") == -1
    for path in FORMS:
        assert (await admin.post(path, {"go": "yes"})).status_code == 403, "without the token against forgery"
    assert (await policy_now(http))["revision"] == 0


async def test_every_setting_is_there_with_what_it_means_its_default_and_what_it_does(
    host: Host, browse: Browse
) -> None:
    page = (await (await browse(host)).get("/policy")).text
    fields = await form_of(await browse(host))
    assert every_path() <= set(fields)
    document = SandboxPolicy.model_json_schema(by_alias=True)
    parts = [
        document,
        *(document["$defs"][name] for name in ("Resources", "Filesystem", "Network", "Privilege")),
    ]
    for part in parts:
        for name, said in part["properties"].items():
            assert said.get("description") or "$ref" in said, name
    assert "Processor time of each process" in page
    assert "Now: <b><bdi>60 seconds</bdi></b>, the default" in page
    assert "deny: Scripts connect to nothing, whatever the allowlist says." in page


async def test_a_form_that_was_not_touched_changes_nothing(
    host: Host, browse: Browse, http: httpx.AsyncClient
) -> None:
    browser = await browse(host)
    odd = {"network": {"allow": ["*.example.com:443", "10.0.0.0/8"]}, "resources": {"memoryBytes": 123456789}}
    await http.patch(POLICY, json={"policy": odd})
    for path in ("/policy", "/policy?as=json"):
        answer = await sent(browser, await form_of(browser, path), reason="none")
        assert answer.headers["location"] == "/policy"
        assert "Nothing changed" in (await browser.get("/policy")).text
    assert (await policy_now(http))["revision"] == 1


async def test_a_stricter_policy_is_saved_at_once_with_its_reason(
    host: Host, browse: Browse, http: httpx.AsyncClient
) -> None:
    browser = await browse(host)
    fields = await form_of(browser)
    assert (await sent(browser, fields, network__mode="deny", reason="  ")).status_code == 422
    saved = await sent(
        browser, fields, network__mode="deny", resources__memoryBytes="256 MiB", reason="an attack"
    )
    assert saved.status_code == 303
    now = await policy_now(http)
    assert (now["revision"], now["policy"]["network"]["mode"]) == (1, "deny")
    assert now["policy"]["resources"]["memoryBytes"] == 256 * 1024 * 1024
    told = (await http.get(f"{POLICY}/history")).json()["revisions"][0]
    assert told["reason"] == "an attack"
    assert told["actor"].startswith("admin")


async def test_what_makes_the_policy_looser_is_saved_only_once_just_that_was_agreed_to(
    host: Host, browse: Browse, http: httpx.AsyncClient
) -> None:
    browser = await browse(host)
    fields = {**await form_of(browser), "network.allow": "10.0.0.5:443", "reason": "the shop"}
    asked = await sent(browser, fields)
    assert asked.status_code == 422
    assert "scripts may connect to 10.0.0.5:443" in asked.text
    seen = re.search('name="asked" value="([0-9a-f]{64})"', asked.text)
    assert seen is not None
    other = await sent(browser, fields, network__allow="10.0.0.0/8", sure="yes", asked=seen[1])
    assert other.status_code == 422
    assert (await sent(browser, fields, sure="yes", asked="yes")).status_code == 422
    assert (await policy_now(http))["revision"] == 0
    assert (await sent(browser, fields, sure="yes", asked=seen[1])).status_code == 303
    assert (await policy_now(http))["policy"]["network"]["allow"] == ["10.0.0.5:443"]


WRONG_FIELDS = [
    ("network.allow", "10.0.0.1\n10.0.0.300", "10.0.0.300"),
    ("network.mode", "everything", "must be"),
    ("enabled", "perhaps", "must be true or false"),
    ("resources.cpuSeconds", "a minute", "must be a whole number"),
    ("resources.cpuSeconds", "0", "must be at least 1"),
    ("resources.memoryBytes", "1 KiB", "at least"),
    ("resources.memoryBytes", "9" * 400, "must be a whole number"),
    ("filesystem.hostPaths", "relative", "relative"),
    ("filesystem.hostView", "keyboards", "must be"),
    ("privilege.uid", "0", "must be at least 1"),
]


async def test_what_is_wrong_is_said_beside_the_field_and_nothing_entered_is_lost(
    host: Host, browse: Browse, http: httpx.AsyncClient
) -> None:
    browser = await browse(host)
    untouched = await form_of(browser)
    for path, text, said in WRONG_FIELDS:
        fields = {**untouched, path: text, "reason": "a reason to keep"}
        for to, status in (("/policy", 422), ("/policy/preview", 200)):
            answer = await sent(browser, fields, to)
            assert answer.status_code == status
            error = re.search(f'id="error-{re.escape(path)}">(.*?)</p>', answer.text, re.DOTALL)
            assert error is not None, (path, text)
            assert said in error[1], (path, text)
            assert "a reason to keep" in answer.text
            if path != "network.mode" and path != "enabled":
                assert text.split("\n")[-1] in answer.text
    assert (await policy_now(http))["revision"] == 0


async def test_a_field_that_was_not_sent_is_no_setting(
    host: Host, browse: Browse, http: httpx.AsyncClient
) -> None:
    browser = await browse(host)
    await http.patch(POLICY, json={"policy": {"network": {"mode": "deny"}}})
    fields = await form_of(browser)
    del fields["network.mode"]
    answer = await sent(browser, fields, reason="cut short")
    assert answer.status_code == 422
    assert "was not sent" in answer.text
    assert (await policy_now(http))["policy"]["network"]["mode"] == "deny"


WRONG_DOCUMENTS = [
    ("{", "line 1, column 2"),
    ("[]", "must be a JSON object"),
    ("[" * 100_000, "nested too deep"),
    ('{"network": {"mode": "deny", "mode": "unrestricted"}}', "is there twice"),
    ('{"netwrok": {}}', "netwrok: unknown key"),
    ('{"resources": {"cpuSeconds": 1e400}}', "finite"),
    ('{"network": {"allow": ["127.0.0.5:80"]}}', "localhost"),
]


async def test_a_document_that_is_no_policy_is_told_so_in_words(host: Host, browse: Browse) -> None:
    browser = await browse(host)
    fields = await form_of(browser, "/policy?as=json")
    for document, said in WRONG_DOCUMENTS:
        answer = await sent(browser, fields, document=document, reason="x")
        assert answer.status_code == 422
        assert said in answer.text, document[:100]


async def test_the_form_and_the_document_are_two_views_of_the_same(
    host: Host, browse: Browse, http: httpx.AsyncClient
) -> None:
    browser = await browse(host)
    fields = await form_of(browser)
    switched = await sent(
        browser, fields, "/policy/preview", network__mode="deny", switch="json", reason="kept"
    )
    as_json = form_in(switched.text)
    assert json.loads(as_json["document"])["network"]["mode"] == "deny"
    assert as_json["reason"] == "kept"
    back = form_in((await sent(browser, as_json, "/policy/preview", switch="fields")).text)
    assert back["network.mode"] == "deny"
    assert (await sent(browser, as_json)).status_code == 303
    assert (await policy_now(http))["policy"]["network"]["mode"] == "deny"
    written = (await (await browse(host)).get("/policy/schema")).json()
    assert written["properties"]["network"]


async def test_a_preview_says_what_would_change_and_writes_nothing(
    host: Host, browse: Browse, http: httpx.AsyncClient
) -> None:
    browser = await browse(host)
    answer = await sent(browser, await form_of(browser), "/policy/preview", network__mode="deny")
    assert answer.status_code == 200
    assert "<del>- network.mode = allowlist</del>" in answer.text
    assert "<ins>+ network.mode = deny</ins>" in answer.text
    assert (await policy_now(http))["revision"] == 0


async def test_a_destination_in_the_address_is_filled_in_and_foreseen_and_not_saved(
    host: Host, browse: Browse, http: httpx.AsyncClient
) -> None:
    browser = await browse(host)
    await http.patch(POLICY, json={"policy": {"network": {"allow": ["10.0.0.1"]}}})
    page = await browser.get("/policy?allow=api.example.com:443")
    fields = await form_of(browser, "/policy?allow=api.example.com:443")
    assert fields["network.allow"] == "10.0.0.1\napi.example.com:443"
    assert "scripts may connect to api.example.com:443" in page.text
    assert (await policy_now(http))["revision"] == 1
    wrong = await browser.http.get("/policy", params={"allow": "<b>no</b>"})
    assert wrong.status_code == 200
    assert "<b>no" not in wrong.text


async def test_all_network_is_denied_at_once_whatever_else_holds(
    host: Host, browse: Browse, http: httpx.AsyncClient
) -> None:
    browser = await browse(host)
    await http.patch(POLICY, json={"policy": {"resources": {"cpuSeconds": 5}}})
    assert (await browser.act("/policy/deny-network")).status_code == 303
    now = (await policy_now(http))["policy"]
    assert (now["network"]["mode"], now["resources"]["cpuSeconds"]) == ("deny", 5)
    assert "All network is denied" in (await browser.get("/policy")).text


async def test_others_words_are_text_in_the_form_the_preview_and_the_history(
    host: Host, browse: Browse, http: httpx.AsyncClient
) -> None:
    browser = await browse(host)
    for place, words in enumerate(HOSTILE):
        fields = await form_of(browser)
        limit = str(50 - place)
        if len(words) <= 1000:
            saved = await sent(browser, fields, resources__cpuSeconds=limit, reason=words)
            assert saved.status_code == 303, words
        wrong = await sent(browser, fields, network__allow=words, network__mode=words, reason=words)
        assert wrong.status_code == 422
        answers = [wrong, await sent(browser, fields, "/policy/preview", filesystem__hostPaths=f"/{words}")]
        answers += [await browser.get(path) for path in ("/policy", "/policy/history", "/policy/history/1")]
        for answer in answers:
            assert not re.search(
                r"<(script>|img|h1>mine)|23333331", re.sub(r'value="[^"]*"', "", answer.text)
            ), words
    assert (await policy_now(http))["revision"] == len(HOSTILE) - 1


async def test_the_overview_warns_of_weak_settings_and_of_no_sandbox(
    host: Host, browse: Browse, http: httpx.AsyncClient
) -> None:
    browser = await browse(host)
    await http.patch(
        POLICY, json={"policy": {"network": {"mode": "unrestricted"}, "onUnavailable": "degrade"}}
    )
    front = (await browser.get("/")).text
    assert "network.mode is unrestricted" in front
    assert "onUnavailable is degrade" in front
    await http.patch(POLICY, json={"policy": {"enabled": False}})
    assert "Scripts run without any sandbox" in (await browser.get("/")).text
    found = (await browser.get("/find?q=metadata")).text
    assert "network.denyLinkLocalAndMetadata" in found
    assert DEFAULT_POLICY.enabled


async def test_the_bar_for_saving_stays_in_sight_only_once_something_is_entered(
    host: Host, browse: Browse
) -> None:
    admin = await browse(host)
    page = (await admin.get("/policy")).text
    assert re.search(r'<form [^>]*id="policy-form" class="policy"', page)
    fields = form_in(page) | {"resources.maxOpenFiles": "512"}
    previewed = await admin.act("/policy/preview", **fields)
    assert re.search(r'<form [^>]*id="policy-form" class="policy begun"', previewed.text)


async def test_enter_in_a_field_previews_and_neither_saves_nor_changes_the_form(
    host: Host, browse: Browse
) -> None:
    """A browser sends what Enter asks for by the first button of the form, in the order of the page."""
    page = (await (await browse(host)).get("/policy")).text
    first = re.search(r'<button( form="policy-form")[^>]*>', page)
    assert first is not None
    assert 'formaction="/policy/preview"' in first[0]
    assert "name=" not in first[0]
    assert page.index(first[0]) < page.index('id="policy-form"')
