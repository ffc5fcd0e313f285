"""Secrets on a real host and a real database: written, listed, deleted, given to plugins, and read by nobody."""

from __future__ import annotations

import base64
import os

import pytest
from ringfence.testing import client
from ringfence_secrets.keyring import FILE
from ringfence_secrets.service import MissingSecretsError, SecretError
from sqlalchemy import text

from tests.secrets.conftest import StartVaulted, Vaulted

VALUE = "correct horse battery staple"


async def everything_stored(vaulted: Vaulted) -> str:
    """All that the database holds, of this plugin and in the event log."""
    assert vaulted.host.runtime is not None
    async with vaulted.host.runtime.database.sessions() as session:
        rows = [
            str(list(await session.execute(text(query))))
            for query in (
                "SELECT * FROM secrets_secrets",
                "SELECT * FROM secrets_kept",
                "SELECT payload, actor, reason FROM events",
            )
        ]
    return "\n".join(rows)


async def test_a_plugin_gets_what_an_administrator_has_set(vaulted: Vaulted) -> None:
    answer = await vaulted.set("API_TOKEN", VALUE)
    assert answer.status_code == 200
    assert await vaulted.asking.secrets.get(["API_TOKEN"]) == {"API_TOKEN": VALUE}
    await vaulted.set("API_TOKEN", "another one")
    assert await vaulted.asking.secrets.get(["API_TOKEN"]) == {"API_TOKEN": "another one"}


async def test_no_answer_and_no_row_holds_the_value(vaulted: Vaulted) -> None:
    answer = await vaulted.set("API_TOKEN", VALUE)
    [listed] = await vaulted.listed()
    assert set(listed) == {"name", "keyId", "createdAt", "updatedAt", "updatedBy"}
    stored = await everything_stored(vaulted)
    assert "API_TOKEN" in stored
    assert VALUE not in answer.text + str(listed) + stored
    assert (await vaulted.api.get("/api/secrets/secrets/API_TOKEN")).status_code == 405


async def test_what_a_plugin_keeps_for_itself_is_encrypted_and_given_to_no_script(vaulted: Vaulted) -> None:
    kept, sessions = vaulted.asking.kept, vaulted.asking.context.sessions
    async with sessions.begin() as session:
        await kept.keep(session, "asking", "one", VALUE)
    assert await kept.value("asking", "one") == VALUE
    assert VALUE not in await everything_stored(vaulted)
    assert await vaulted.listed() == []
    for name in ("one", "asking/one"):
        with pytest.raises(MissingSecretsError):
            await vaulted.asking.secrets.get([name])
    with pytest.raises(SecretError, match="other keeps no value under the name one"):
        await kept.value("other", "one")
    async with sessions.begin() as session:
        await kept.forget(session, "asking", "one")
    with pytest.raises(SecretError, match="asking keeps no value"):
        await kept.value("asking", "one")


async def test_a_deleted_secret_is_gone(vaulted: Vaulted) -> None:
    await vaulted.set("API_TOKEN", VALUE)
    assert (await vaulted.api.delete("/api/secrets/secrets/API_TOKEN")).status_code == 204
    assert (await vaulted.api.delete("/api/secrets/secrets/API_TOKEN")).status_code == 404
    with pytest.raises(MissingSecretsError, match="API_TOKEN"):
        await vaulted.asking.secrets.get(["API_TOKEN"])


async def test_the_store_of_another_plugin_is_asked_first_and_the_built_in_one_for_the_rest(
    vaulted: Vaulted,
) -> None:
    await vaulted.set("HERE", "value that is here")
    await vaulted.set("BOTH", "value that is here")
    vaulted.asking.store.values = {"THERE": "there", "BOTH": "there"}
    found = await vaulted.asking.secrets.get(["HERE", "THERE", "BOTH"])
    assert found == {"HERE": "value that is here", "THERE": "there", "BOTH": "there"}


@pytest.mark.parametrize(
    ("name", "value", "problem"),
    [
        ("a.b", VALUE, "is not a valid name"),
        ("LD_PRELOAD", VALUE, "does not pass"),
        ("PATH", VALUE, "does not pass"),
        ("SHORT", "abc", "characters"),
        ("NUL", "a" * 10 + "\0", "NUL"),
    ],
)
async def test_what_a_run_could_not_have_is_refused(
    vaulted: Vaulted, name: str, value: str, problem: str
) -> None:
    answer = await vaulted.set(name, value)
    assert answer.status_code == 422
    assert problem in answer.json()["detail"]
    assert value not in answer.text


async def test_a_body_that_does_not_fit_is_not_shown_again(vaulted: Vaulted) -> None:
    answer = await vaulted.api.put("/api/secrets/secrets/API_TOKEN", json={"value": [VALUE]})
    assert answer.status_code == 422
    assert VALUE not in answer.text


async def test_secrets_need_the_rule(vaulted: Vaulted) -> None:
    async with client(vaulted.host, rules=["secrets.secret.use"]) as user:
        assert (await user.get("/api/secrets/secrets")).status_code == 403
        put = await user.put("/api/secrets/secrets/API_TOKEN", json={"value": VALUE})
        assert put.status_code == 403


async def test_keys_are_rotated_without_losing_a_secret(
    start_vaulted: StartVaulted, monkeypatch: pytest.MonkeyPatch
) -> None:
    old, new = (base64.b64encode(os.urandom(32)).decode() for _ in range(2))
    monkeypatch.setenv("RINGFENCE_SECRETS_KEY", old)
    before = await start_vaulted()
    await before.set("API_TOKEN", VALUE)
    [was] = await before.listed()

    async with before.asking.context.sessions.begin() as session:
        await before.asking.kept.keep(session, "asking", "one", VALUE)

    monkeypatch.setenv("RINGFENCE_SECRETS_KEY", f"{new},{old}")
    during = await start_vaulted()
    assert (await during.api.post("/api/secrets/reseal")).json() == {"resealed": ["API_TOKEN", "asking/one"]}
    assert (await during.api.post("/api/secrets/reseal")).json() == {"resealed": []}
    [now] = await during.listed()
    assert now["keyId"] != was["keyId"]

    monkeypatch.setenv("RINGFENCE_SECRETS_KEY", new)
    after = await start_vaulted()
    assert await after.asking.secrets.get(["API_TOKEN"]) == {"API_TOKEN": VALUE}
    assert await after.asking.kept.value("asking", "one") == VALUE

    monkeypatch.setenv("RINGFENCE_SECRETS_KEY", old)
    left_behind = await start_vaulted()
    with pytest.raises(SecretError, match="give every instance the same RINGFENCE_SECRETS_KEY"):
        await left_behind.asking.secrets.get(["API_TOKEN"])


async def test_an_instance_that_keeps_no_secret_makes_no_key(vaulted: Vaulted) -> None:
    path = vaulted.host.data_dir.path / FILE
    assert await vaulted.listed() == []
    assert not path.exists()
    await vaulted.set("API_TOKEN", VALUE)
    assert path.exists()


async def test_nothing_is_known_to_use_a_secret_that_no_plugin_names(vaulted: Vaulted) -> None:
    await vaulted.set("API_TOKEN", VALUE)
    async with client(vaulted.host) as http:
        answer = await http.get("/api/secrets/secrets/API_TOKEN/users")
        assert (answer.status_code, answer.json()) == (200, {"users": [], "count": 0})
        assert (await http.get("/api/secrets/secrets/OTHER/users")).status_code == 404
    async with client(vaulted.host, rules=["secrets.secret.use"]) as http:
        assert (await http.get("/api/secrets/secrets/API_TOKEN/users")).status_code == 403
