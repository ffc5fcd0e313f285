"""Two people change the policy at once: what one has changed is kept, what both have is chosen, nothing is lost."""

from __future__ import annotations

import re
from typing import Any

import httpx
from ringfence.host import Host
from ringfence_script_packages.pages.merging import merge

from tests.pages.conftest import Browse
from tests.pages.policy.conftest import POLICY, form_in, form_of, policy_now, sent


def hidden(page: str, action: str = "/policy/merge") -> dict[str, str]:
    """The hidden fields of the form that puts two changes together."""
    import html

    form = page[page.index(f'action="{action}"') :]
    form = form[: form.index("</form>")]
    pairs = re.findall(r'<input type="hidden" name="([^"]+)" value="([^"]*)">', form)
    return {name: html.unescape(value) for name, value in pairs}


async def test_settings_that_one_of_two_has_changed_are_put_together_without_a_question(
    host: Host, browse: Browse, http: httpx.AsyncClient
) -> None:
    browser = await browse(host)
    fields = {**await form_of(browser), "network.mode": "deny", "reason": "mine & yours"}
    await http.patch(POLICY, json={"policy": {"resources": {"cpuSeconds": 7}}, "reason": "theirs"})
    foreseen = (await sent(browser, fields, "/policy/preview")).text
    assert "Somebody has changed the policy since you began at revision 0" in foreseen
    assert "<ins>+ network.mode = deny</ins>" in foreseen
    assert "cpuSeconds =" not in foreseen, "what somebody else has changed is not undone"
    clash = await sent(browser, fields)
    assert clash.status_code == 409
    assert "Somebody else has changed the policy" in clash.text
    assert "<bdi>theirs</bdi>" in clash.text
    assert 'name="choose.' not in clash.text
    assert (await policy_now(http))["revision"] == 1
    together = await browser.post("/policy/merge", hidden(clash.text))
    form = form_in(together.text)
    assert (form["network.mode"], form["resources.cpuSeconds"]) == ("deny", "7")
    assert (form["base"], form["reason"]) == ("1", "mine & yours")
    assert (await sent(browser, form)).status_code == 303
    now = await policy_now(http)
    assert (now["revision"], now["policy"]["network"]["mode"]) == (2, "deny")
    assert now["policy"]["resources"]["cpuSeconds"] == 7


async def test_a_setting_that_both_have_changed_is_chosen_by_hand(
    host: Host, browse: Browse, http: httpx.AsyncClient
) -> None:
    browser = await browse(host)
    await http.patch(POLICY, json={"policy": {"network": {"allow": ["10.0.0.1", "10.0.0.2"]}}})
    fields = {
        **await form_of(browser),
        "network.allow": "10.0.0.2\n10.0.0.3",
        "resources.cpuSeconds": "20",
        "reason": "mine",
    }
    theirs = {"network": {"allow": ["10.0.0.1", "10.0.0.2", "10.0.0.4"]}, "resources": {"cpuSeconds": 30}}
    await http.patch(POLICY, json={"policy": theirs})
    clash = await sent(browser, fields)
    assert clash.status_code == 409
    taken = hidden(clash.text)
    undecided = await browser.post("/policy/merge", {**taken, "choose.network.allow": "both"})
    assert undecided.status_code == 409
    assert re.search(r'name="choose.network.allow" value="both" required checked', undecided.text)
    wrong = {**taken, "choose.network.allow": "both", "choose.resources.cpuSeconds": "both"}
    assert (await browser.post("/policy/merge", wrong)).status_code == 409
    chosen = {**taken, "choose.network.allow": "both", "choose.resources.cpuSeconds": "mine"}
    form = form_in((await browser.post("/policy/merge", chosen)).text)
    assert form["network.allow"].split() == ["10.0.0.2", "10.0.0.4", "10.0.0.3"]
    assert form["resources.cpuSeconds"] == "20"
    assert "<ins>+ network.allow: 10.0.0.3</ins>" in (await sent(browser, form, "/policy/preview")).text
    assert (await policy_now(http))["revision"] == 2


async def test_a_third_change_while_one_chooses_is_put_together_as_well(
    host: Host, browse: Browse, http: httpx.AsyncClient
) -> None:
    browser = await browse(host)
    fields = {**await form_of(browser), "resources.cpuSeconds": "20", "reason": "mine"}
    await http.patch(POLICY, json={"policy": {"resources": {"cpuSeconds": 30}}})
    taken = hidden((await sent(browser, fields)).text)
    await http.patch(POLICY, json={"policy": {"resources": {"cpuSeconds": 40}}})
    once_more = await browser.post("/policy/merge", {**taken, "choose.resources.cpuSeconds": "mine"})
    assert once_more.status_code == 409
    assert "40 seconds" in once_more.text or ">40<" in once_more.text
    settled = await browser.post(
        "/policy/merge", {**hidden(once_more.text), "choose.resources.cpuSeconds": "mine"}
    )
    form = form_in(settled.text)
    assert (form["resources.cpuSeconds"], form["base"]) == ("20", "2")
    # And another one before it is saved.
    await http.patch(POLICY, json={"policy": {"resources": {"maxProcesses": 9}}})
    clash = await sent(browser, form)
    assert clash.status_code == 409
    assert (await policy_now(http))["policy"]["resources"]["cpuSeconds"] == 40


async def test_a_revision_that_nobody_knows_makes_every_difference_a_question(
    host: Host, browse: Browse, http: httpx.AsyncClient
) -> None:
    browser = await browse(host)
    fields = {**await form_of(browser), "base": "99", "network.mode": "deny", "reason": "set back"}
    clash = await sent(browser, fields)
    assert clash.status_code == 409
    assert 'name="choose.network.mode"' in clash.text
    assert (await sent(browser, {**fields, "base": "-1"})).status_code == 422
    forged = {**hidden(clash.text), "mine": '{"enabled": 3}'}
    assert (await browser.post("/policy/merge", forged)).status_code == 422
    assert (await policy_now(http))["revision"] == 0


def test_lists_are_merged_by_what_either_has_added_and_removed() -> None:
    def both(base: Any, mine: Any, theirs: Any) -> Any:
        found = merge({"a": base}, {"a": mine}, {"a": theirs})
        return found.conflicts[0].both if found.conflicts else found.values["a"]

    assert both(["x"], ["x", "m"], ["x", "t"]) == ["x", "t", "m"]
    assert both(["x", "y"], ["y", "m"], ["x", "t"]) == ["t", "m"]
    assert both(["x"], ["x"], []) == []
    assert both(1, 2, 3) is None
    assert merge(None, {"a": 1}, {"a": 2}).conflicts[0].base is None
    assert merge({"a": None}, {"a": None}, {"a": 5}).values == {"a": 5}
