"""`ringfence support-bundle`: whoever helps sees how an installation is, and nothing that is a secret."""

from __future__ import annotations

import asyncio
import base64
import json
import stat
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from ringfence.plugins.discovery import discover
from ringfence.plugins.without_a_host import branches_of
from ringfence.support.lines import shown
from ringfence.testing import TestPostgres

from tests.backup.conftest import query
from tests.cli.conftest import Command, Outcome
from tests.cli.instances import Command as Running
from tests.primitives import requires

PLANTED = {
    "a payload": "pay-l0ad-Zw9",
    "a script": "scr1pt-Zw9-words",
    "a parameter": "par4m-Zw9-eter",
    "a stored value": "st0red-Zw9-value",
    "a database password": "dbpass-Zw9-word",
    "an admin token": "rft_adm1n-Zw9-token",
    "a satellite's token": "rft_sat3llite-Zw9",
    "a key": base64.b64encode(b"Zw9-key-of-32-bytes-and-no-more!").decode(),
    "a variable": "vari4ble-Zw9-secret",
    "an error's words": "err0r-Zw9-words",
}


ERROR_WORDS, SCRIPT = PLANTED["an error's words"], PLANTED["a script"]


def contents(path: Path) -> dict[str, str]:
    found = {}
    with tarfile.open(path) as tar:
        for info in tar:
            assert (info.isreg(), info.mode) == (True, 0o600)
            file = tar.extractfile(info)
            assert file is not None
            found[info.name.partition("/")[2]] = file.read().decode()
    return found


def spellings(secret: str) -> Iterator[str]:
    """A secret as it may be written: plain, in hexadecimal, and in base64 wherever it begins in what is encoded."""
    yield secret
    yield secret.encode().hex()
    for before in range(3):
        encoded = base64.b64encode(b"x" * before + secret.encode() + b"xxx").decode()
        yield encoded[4 if before else 0 : len(encoded) - 8]


def assert_clean(path: Path) -> None:
    everything = "".join(contents(path).values())
    for what, secret in PLANTED.items():
        for one in spellings(secret):
            assert one not in everything, what


@pytest.fixture
def planted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, postgres: TestPostgres) -> Iterator[Path]:
    """A data directory and a database with a secret in every place that a bundle looks at."""
    data = tmp_path / "data"
    (data / "logs").mkdir(parents=True)
    (data / "admin-token").write_text(PLANTED["an admin token"] + "\n")
    (data / "local-satellite-token").write_text(PLANTED["a satellite's token"] + "\n")
    (data / "secrets-key").write_text(PLANTED["a key"] + "\n")
    (data / "logs" / "host.json").write_text("{}")
    lines = [
        {
            "event": "run failed",
            "logger": "ringfence.runs",
            "level": "error",
            "run_id": "r-1",
            "seconds": 1.5,
        },
        {"event": "failed", "logger": "ringfence.x", "error": f"ValueError: {ERROR_WORDS}"},
        {
            "event": "failed",
            "logger": "ringfence.x",
            "detail": PLANTED["a script"],
            "name": PLANTED["a script"] + " x",
        },
        {"event": f"library says {PLANTED['a parameter']}", "logger": "library"},
        {"event": f"told {PLANTED['a variable']}", "logger": "ringfence.x"},
        {"event": base64.b64encode(f"-{PLANTED['a variable']}-".encode()).decode(), "logger": "ringfence.x"},
        {"event": "x", "logger": "ringfence.x", "nested": {"a": [PLANTED["a payload"]]}, "token": "kurz"},
        {
            "event": "raised",
            "logger": "ringfence.x",
            "exception": f'Traceback:\n  File "/a/b.py", line 7, in run\n    x = "{SCRIPT}"\n'
            f"ValueError: {ERROR_WORDS}",
        },
    ]
    text = "".join(json.dumps(one) + "\n" for one in lines) + f"no JSON: {PLANTED['a payload']}\n"
    (data / "logs" / "host.log").write_text(text)
    url = asyncio.run(postgres.create(branches_of(discover())))
    payload = json.dumps({"value": PLANTED["a payload"], "script": PLANTED["a script"]})
    query(
        url,
        "SELECT ringfence_append_event('s', 'a-hook', 'p', %s::jsonb, NULL, %s, NULL, gen_random_uuid(), false)",
        payload,
        PLANTED["a payload"],
    )
    query(url, "INSERT INTO plugin_configs VALUES ('p', 'k', 1, %s::jsonb, now(), NULL)", payload)
    query(
        url,
        "INSERT INTO secrets_secrets (name, key_id, sealed, updated_by) VALUES ('S', 'k', %s, 'ann')",
        PLANTED["a stored value"].encode(),
    )
    libpq = url.replace("+psycopg", "").replace("ringfence@", f"ringfence:{PLANTED['a database password']}@")
    monkeypatch.setenv("RINGFENCE_DATABASE_URL", libpq)
    monkeypatch.setenv("RINGFENCE_SECRETS_KEY", PLANTED["a key"])
    monkeypatch.setenv("RINGFENCE_TOKEN", PLANTED["a variable"])
    yield data
    asyncio.run(postgres.drop(url))


def bundle(command: Command, path: Path, *options: str) -> Outcome:
    made = command("support-bundle", str(path), *options)
    assert made.status == 0, made.stderr
    return made


@pytest.mark.usefixtures("planted")
def test_no_secret_is_in_it_whatever_it_is_made_of_and_what_is_missing_is_told(
    command: Command, tmp_path: Path
) -> None:
    path = tmp_path / "b.tar.gz"
    made = bundle(command, path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert_clean(path)
    held = contents(path)
    assert "metrics.txt      the host's numbers" in made.stderr
    assert "metrics.txt      could not be had: NoHost" in made.stdout
    assert "could not be had" in held["status.json"]
    assert json.loads(held["about.json"])["ringfence"]
    assert "capabilities" in json.loads(held["doctor.json"])
    database = json.loads(held["database.json"])
    assert database["revisions"]["host"]
    assert [one[:3] for one in database["recentEvents"]] == [["a-hook", 1, 1]]
    lines = [json.loads(one) for one in held["log.jsonl"].splitlines()]
    assert (lines[0]["event"], lines[0]["run_id"], lines[0]["seconds"]) == ("run failed", "r-1", 1.5)
    assert lines[1]["error"] == "ValueError"
    assert lines[7]["exception"] == ["/a/b.py:7 run", "ValueError"]
    # With nothing left out, what the machine knows is left out all the same.
    bundle(command, tmp_path / "whole.tar.gz", "--whole-logs", "--json")
    whole = contents(tmp_path / "whole.tar.gz")["log.jsonl"]
    for what in ("a variable", "an admin token", "a key", "a database password"):
        assert not any(one in whole for one in spellings(PLANTED[what])), what
    assert PLANTED["an error's words"] in whole


@pytest.mark.usefixtures("planted")
def test_a_database_that_cannot_be_reached_is_told_without_its_password(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    password = PLANTED["a database password"]
    monkeypatch.setenv("RINGFENCE_DATABASE_URL", f"postgresql://u:{password}@127.0.0.1:1/x")
    made = bundle(command, tmp_path / "b.tar.gz", "--json", "--stacks")
    assert {"database.json", "status.json", "plugins.json", "metrics.txt", "stacks.txt"} == set(
        made.json["missing"]
    )
    assert_clean(tmp_path / "b.tar.gz")
    assert password not in made.stdout + made.stderr
    again = command("support-bundle", str(tmp_path / "b.tar.gz"))
    assert again.status == 1
    assert "is there already" in again.stderr


def test_of_a_text_that_anybody_may_have_written_only_the_length_is_told() -> None:
    assert shown({"event": "x", "logger": "ringfence.a", "words": "abc def", "n": 3, "instance": "i-1"}) == {
        "event": "x",
        "logger": "ringfence.a",
        "words": "(7 characters left out)",
        "n": 3,
        "instance": "i-1",
    }
    assert shown({"event": "x", "logger": "theirs"})["event"] == "(1 characters left out)"
    assert shown({"error": "OperationalError: x"})["error"] == "OperationalError"
    assert shown({"run_id": "echo secret"})["run_id"] == "(11 characters left out)"


@pytest.mark.slow
@requires("user namespaces")
def test_of_a_host_that_runs_everything_is_had(command: Command, open_directory: Path) -> None:
    data = open_directory / "data"
    running = Running("up", "--port", "0", "--data-dir", str(data), "--no-satellite")
    try:
        running.until_it_says("Ctrl-C")
        path = open_directory / "b.tar.gz"
        made = bundle(command, path, "--stacks", "--json", "--data-dir", str(data))
        assert made.json["missing"] == {}
        held = contents(path)
        assert json.loads(held["status.json"])["ready"]
        assert "ringfence_" in held["metrics.txt"]
        assert {one["id"] for one in json.loads(held["plugins.json"])} >= {"secrets", "satellite"}
        assert "host ready" in held["log.jsonl"]
        assert "Current thread" in held["stacks.txt"] or "Thread" in held["stacks.txt"]
        everything = "".join(held.values())
        for name in ("admin-token",):
            assert (data / name).read_text().strip() not in everything
    finally:
        running.end()
