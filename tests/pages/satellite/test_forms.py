"""Adding, changing and deleting satellites by forms: right and wrong, and as what one holds."""

from __future__ import annotations

import re
from html import unescape

import httpx
from ringfence_satellite.pages.handing_over import handing
from ringfence_satellite.server import satellites
from sqlalchemy import text

from tests.pages.conftest import Browse
from tests.pages.satellite.conftest import MANAGE, PLACE, READ
from tests.satellite.conftest import StartInstance
from tests.satellite.instances import Instance, Registered
from tests.satellite.test_fleet_state import events_of

EVERYTHING = [READ, MANAGE, PLACE]
FIELDS = {"name": "berlin", "region": "eu", "labels": "role=web\nold", "vars": "disk=80", "offline": "30"}


def copied(page: httpx.Response, what: str) -> str:
    """A text that the page shows to be copied."""
    found = re.search(f'<pre [^>]*id="copy-{what}"[^>]*>([^<]*)</pre>', page.text)
    assert found is not None, page.text
    return unescape(found[1])


def form_in(page: str, action: str) -> dict[str, str]:
    """The fields of a form as a browser would send them untouched."""
    form = page[page.index(f'<form method="post" action="{action}">') :]
    form = form[: form.index("</form>")]
    found = dict(re.findall(r'<input [^>]*?name="([^"]+)"[^>]*? value="([^"]*)"', form))
    found |= dict(re.findall(r'<textarea [^>]*?name="([^"]+)"[^>]*>\n(.*?)</textarea>', form, re.S))
    return {name: unescape(value) for name, value in found.items() if name != "csrf"}


async def test_a_satellite_is_added_with_what_starts_its_agent(instance: Instance, browse: Browse) -> None:
    browser = await browse(instance.host, rules=EVERYTHING)
    assert "There are no satellites yet." in (await browser.get("/satellites")).text
    made = await browser.act("/satellites", **FIELDS)
    assert made.status_code == 200
    satellite = Registered(copied(made, "id"), copied(made, "token"))
    shown = await instance.show(satellite)
    assert (shown["name"], shown["region"], shown["labels"]) == ("berlin", "eu", {"role": "web", "old": ""})
    assert (shown["vars"], shown["offlineAfterSeconds"]) == ({"disk": "80"}, 30)
    async with instance.connected(satellite):  # the token is the right one
        await instance.until(satellite, lambda one: one["status"] == "online")
    for way in ("command", "service", "container"):
        told = copied(made, way)
        assert satellite.id in told
        assert "http://127.0.0.1:8484" in told
        assert satellite.token not in told
    assert satellite.token in copied(made, "file")
    assert "is reached from this machine alone" in made.text
    assert "RINGFENCE_PUBLIC_URL" in made.text
    # It is seen this once.
    for path in ("/satellites", f"/satellites/{satellite.id}"):
        assert satellite.token not in (await browser.get(path)).text


async def test_what_starts_an_agent_names_the_address_that_is_set(
    start_instance: StartInstance, browse: Browse
) -> None:
    instance = await start_instance(public_url="https://core.example.org/")
    browser = await browse(instance.host, rules=EVERYTHING)
    made = await browser.act("/satellites", **FIELDS)
    page = await browser.get(f"/satellites/{copied(made, 'id')}")
    for way in ("command", "service", "container"):
        assert "--url https://core.example.org --client-id" in copied(made, way)
        assert copied(page, way) == copied(made, way)
    assert copied(made, "token") not in page.text
    reader = await browse(instance.host, rules=[READ], base="http://core.example.org")
    assert "copy-command" not in (await reader.get(f"/satellites/{copied(made, 'id')}")).text
    assert "is reached from this machine alone" not in made.text
    other = await browse(instance.host, rules=EVERYTHING, base="http://core.example.org")
    assert (await other.get("/satellites")).status_code == 200


async def test_what_is_wrong_with_a_form_stands_beside_the_field(instance: Instance, browse: Browse) -> None:
    browser = await browse(instance.host, rules=EVERYTHING)
    taken = await instance.register("taken")
    wrong = {
        "name": ("taken", ""),
        "region": ("",),
        "labels": ("a=b c\n" * 60, "x" * 500, "role=web\n" + "\n".join(f"l{n}=1" for n in range(60))),
        "vars": ("no var", "1x=2"),
        "offline": ("soon", "0", "nan"),
    }
    for field, values in wrong.items():
        for value in values:
            for path in ("/satellites", f"/satellites/{taken.id}"):
                if (field, value, path) == ("name", "taken", f"/satellites/{taken.id}"):
                    continue
                answer = await browser.act(path, **{**FIELDS, field: value})
                if (field, path) == ("region", f"/satellites/{taken.id}"):
                    continue
                assert answer.status_code == 422, (field, value, path)
                assert f'id="error-{field}"' in answer.text, (field, value, path, answer.text)
                assert FIELDS["name"] in answer.text or field == "name"
    assert [
        one["name"] for one in (await instance.api.get("/api/satellite/satellites")).json()["satellites"]
    ] == ["taken"]


async def test_a_satellite_is_changed_rotated_and_deleted(instance: Instance, browse: Browse) -> None:
    browser = await browse(instance.host, rules=EVERYTHING)
    satellite = await instance.register("edge", labels={"role": "web"}, tags=["two words"], vars={"a": "1"})
    path = f"/satellites/{satellite.id}"
    kept = {"name": "edge", "region": "eu", "labels": "role=web\ntwo words", "vars": "a=1", "offline": "45"}
    answer = await browser.act(path, **{**kept, "name": "edge-2"})
    assert (answer.status_code, answer.headers["location"]) == (303, path)
    shown = await instance.show(satellite)
    assert (shown["name"], shown["tags"], shown["labels"]) == ("edge-2", ["two words"], {"role": "web"})
    await browser.act(path, **{**kept, "labels": "role=api\nnew", "vars": "b=2=3"})
    shown = await instance.show(satellite)
    assert (shown["labels"], shown["vars"]) == ({"role": "api", "new": ""}, {"b": "2=3"})
    async with instance.connected(satellite) as peer:
        token = copied(await browser.act(f"{path}/rotate"), "token")
        await peer.closed()
    async with instance.connected(Registered(satellite.id, token)) as peer:
        page = (await browser.get(path)).text
        assert "its token, the state of its packages, and all runs" in page
        answer = await browser.act(f"{path}/delete")
        assert (answer.status_code, answer.headers["location"]) == (303, "/satellites")
        await peer.closed()
    assert (await browser.get(path)).status_code == 404
    assert (await events_of(instance, satellite))[-1] == "satellite-deleted"


async def test_rights_hold_for_forms_as_for_the_api(instance: Instance, browse: Browse) -> None:
    web = await instance.register("web", labels={"role": "web"})
    api = await instance.register("api", labels={"role": "api"})
    reader = await browse(instance.host, rules=[READ])
    manager = await browse(instance.host, rules=[READ, MANAGE])
    narrowed = await browse(instance.host, rules=[READ, f"{MANAGE} on role=web", f"{PLACE} on role=web"])
    paths = [f"/satellites/{web.id}{more}" for more in ("", "/rotate", "/delete")]
    for path in ("/satellites", *paths):
        assert (await reader.act(path, **FIELDS)).status_code == 403, path
        without = await reader.post(path, FIELDS)
        assert without.status_code == 403
    # Who may manage and not place may rename, and not relabel.
    same = {**FIELDS, "name": "web-2", "labels": "role=web", "vars": ""}
    assert (await manager.act(paths[0], **same)).status_code == 303
    assert (await manager.act(paths[0], **{**same, "labels": "role=api"})).status_code == 403
    assert (await manager.act("/satellites", **FIELDS)).status_code == 403
    assert (await manager.act(f"/satellites/{web.id}/rotate")).status_code == 403
    page = (await narrowed.get(f"/satellites/{api.id}")).text
    assert "Delete it" not in page
    for path in (f"/satellites/{api.id}", f"/satellites/{api.id}/rotate", f"/satellites/{api.id}/delete"):
        assert (await narrowed.act(path, **same)).status_code == 403, path
    # Taken out of reach: refused, as by the API.
    assert (await narrowed.act(paths[0], **{**same, "labels": "role=api"})).status_code == 403
    assert (await narrowed.act(f"/satellites/{web.id}/rotate")).status_code == 200
    assert (await instance.show(web))["labels"] == {"role": "web"}


async def test_addresses_are_quoted_in_what_is_to_be_run(instance: Instance) -> None:
    satellite = await instance.register()
    async with instance.host.runtime.database.sessions() as session:
        await session.execute(text("SELECT 1"))
        (one,) = await satellites.listed(session, limit=1)
    told = handing(one, satellite.token, "https://[::1]:8484$(id)")
    assert "'https://[::1]:8484$(id)'" in told.command


async def test_of_two_who_change_a_satellite_at_once_the_second_is_told_and_takes_nothing_back(
    instance: Instance, browse: Browse
) -> None:
    satellite = await instance.register("edge", labels={"role": "web"}, vars={"motd": "one\ntwo=2"})
    path = f"/satellites/{satellite.id}"
    browser = await browse(instance.host, rules=EVERYTHING)
    mine = form_in((await browser.get(path)).text, path)
    theirs = dict(mine)
    # What was not touched stays as it is, also what no line of a field can hold.
    assert (await browser.act(path, **{**theirs, "region": "us"})).status_code == 303
    shown = await instance.show(satellite)
    assert (shown["region"], shown["vars"]) == ("us", {"motd": "one\ntwo=2"})
    late = await browser.act(path, **{**mine, "name": "edge-2"})
    assert late.status_code == 409
    assert "somebody has changed this satellite since" in late.text
    shown = await instance.show(satellite)
    assert (shown["region"], shown["name"]) == ("us", "edge")
    again = form_in(late.text, path)
    assert (again["name"], again["region"]) == ("edge-2", "eu")
    assert (await browser.act(path, **again)).status_code == 303
    assert (await instance.show(satellite))["name"] == "edge-2"


async def test_a_panel_of_a_satellite_that_one_may_not_see_is_not_answered_by_itself(
    instance: Instance, browse: Browse
) -> None:
    web, api = [await instance.register(role, labels={"role": role}) for role in ("web", "api")]
    browser = await browse(instance.host, rules=[f"{READ} on role=web", "script-packages.package.read"])
    panel = "fragment=script-packages.packages-of-satellite"
    for satellite, status in ((web, 200), (api, 403)):
        for query in ("", f"?{panel}"):
            assert (await browser.get(f"/satellites/{satellite.id}{query}")).status_code == status, query
