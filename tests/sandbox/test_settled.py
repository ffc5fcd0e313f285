"""The made part of `/etc`, which is made once and shown to many runs."""

from __future__ import annotations

import fcntl
import os
import shutil
import stat
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from ringfence.sandbox import DEFAULT_POLICY, PolicySnapshot
from ringfence.sandbox.capabilities.model import SystemLayout
from ringfence.sandbox.launch.making import copies as copying
from ringfence.sandbox.launch.making import furnishing, settled
from ringfence.sandbox.launch.making.copies import Copies, Copy
from ringfence.sandbox.launch.making.furnishing import room_of
from ringfence.sandbox.launch.making.settled import SETTLED, Settled
from ringfence.sandbox.plan import etc
from ringfence.sandbox.plan.model import Plan
from ringfence.sandbox.wrappers.room import Layered, Made, Room
from ringfence.scripts import ScriptKind, ScriptRequest, run_under

from tests.primitives import requires
from tests.sandbox.hosts import linux
from tests.sandbox.test_plan import planned

FILES = (("/etc/passwd", b"one\n"), ("/etc/ssl/openssl.cnf", b"two\n"))
COPY = Copy((("/etc/ssl/certs/ca.crt", b"three\n"),), (("/etc/ssl/certs/a", "ca.crt"),), ("/etc/ssl/certs",))


@pytest.fixture
def directories() -> Iterator[Settled]:
    made = Settled()
    yield made
    made.remove()


def test_it_holds_what_was_asked_for_and_everybody_may_only_read_it(directories: Settled) -> None:
    path = directories.path("/etc", FILES, COPY)
    assert path is not None
    assert Path(path, "passwd").read_bytes() == b"one\n"
    assert Path(path, "ssl/openssl.cnf").read_bytes() == b"two\n"
    assert Path(path, "ssl/certs/a").read_bytes() == b"three\n"
    for found, names, files in os.walk(path):
        assert {os.stat(f"{found}/{name}").st_mode & 0o777 for name in files} <= {0o444}
        assert {os.stat(f"{found}/{name}").st_mode & 0o777 for name in names} <= {0o755}


def test_the_same_files_are_in_one_directory_and_others_in_another(directories: Settled) -> None:
    path = directories.path("/etc", FILES, COPY)
    assert directories.path("/etc", FILES, COPY) == path
    assert directories.path("/etc", (("/etc/passwd", b"changed\n"),), COPY) != path


@pytest.mark.parametrize("lost", ["passwd", "ssl/openssl.cnf", "ssl"])
def test_what_others_took_something_out_of_is_made_anew(directories: Settled, lost: str) -> None:
    path = directories.path("/etc", FILES, COPY)
    gone = Path(f"{path}/{lost}")
    shutil.rmtree(gone) if gone.is_dir() else gone.unlink()
    again = directories.path("/etc", FILES, COPY)
    assert again != path
    assert Path(f"{again}/ssl/openssl.cnf").read_bytes() == b"two\n"


def test_there_are_not_more_and_more_of_them(directories: Settled, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(settled, "MOST", 1)
    path = directories.path("/etc", FILES, COPY)
    assert directories.path("/etc", (), Copy()) is None
    assert directories.path("/etc", FILES, COPY) == path


def _etc(plan: Plan) -> Room:
    return room_of(replace(plan, layout=SystemLayout(etc=("/etc/alternatives",))))


def test_a_run_with_a_uid_of_its_own_is_shown_one() -> None:
    plan = planned(linux())
    assert plan.layered
    room = _etc(replace(plan, identity=plan.identity._replace(uid=os.geteuid() + 1)))
    (shown,) = [step for step in room.steps if isinstance(step, Layered) and step.at.startswith("/etc")]
    assert Path(shown.source, "passwd").exists()
    assert Path(shown.source, "alternatives").is_dir()
    assert not any(isinstance(step, Made) for step in room.steps)


def test_a_run_with_its_supervisors_uid_has_files_of_its_own() -> None:
    plan = planned(linux())
    room = _etc(replace(plan, identity=plan.identity._replace(uid=os.geteuid()), uids=None))
    assert not any(isinstance(step, Layered) and step.at == "/etc" for step in room.steps)
    assert "/etc/passwd" in {step.at for step in room.steps if isinstance(step, Made)}


def test_what_the_host_changes_is_so_for_the_next_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "services"
    file.write_text("http 80/tcp\n")
    monkeypatch.setattr(etc, "COPIED_FILES", (str(file),))
    monkeypatch.setattr(furnishing, "copy", lambda path: Path(path).read_bytes())
    plan = planned(linux())
    before = dict(furnishing._made_files(plan))[str(file)]
    file.write_text("https 443/tcp\n")
    assert (before, dict(furnishing._made_files(plan))[str(file)]) == (b"http 80/tcp\n", b"https 443/tcp\n")


@pytest.fixture
def host(tmp_path: Path) -> Path:
    """A directory that everybody may come to, as those of `/etc` are."""
    for directory in (tmp_path, *tmp_path.parents):
        if directory.stat().st_uid == os.geteuid() and not directory.stat().st_mode & stat.S_IXOTH:
            directory.chmod(directory.stat().st_mode | stat.S_IXOTH)
    made = tmp_path / "certs"
    (made / "java").mkdir(parents=True)
    (made / "java/cacerts").write_bytes(b"keys")
    (made / "ca.crt").write_bytes(b"one")
    (made / "link").symlink_to("/etc/shadow")
    return made


def test_a_copy_has_what_everybody_may_read_and_links_as_they_are(host: Path) -> None:
    (host / "keystore").write_bytes(b"secret")
    (host / "keystore").chmod(0o640)
    (host / "private").mkdir(mode=0o700)
    (host / "private/key").write_bytes(b"secret")
    os.mkfifo(host / "pipe")
    assert Copies().of((str(host),)) == Copy(
        ((f"{host}/ca.crt", b"one"), (f"{host}/java/cacerts", b"keys"), (f"{host}/keystore", b"")),
        ((f"{host}/link", "/etc/shadow"),),
        (str(host), f"{host}/java", f"{host}/private"),
    )


def _in_place(host: Path) -> None:
    (host / "java/cacerts").write_bytes(b"none")


def _closed(host: Path) -> None:
    (host / "ca.crt").chmod(0o600)


def _taken_away(host: Path) -> None:
    (host / "java/cacerts").unlink()


def _led_elsewhere(host: Path) -> None:
    (host / "link").unlink()
    (host / "link").symlink_to("ca.crt")


@pytest.mark.parametrize("change", [_in_place, _closed, _taken_away, _led_elsewhere])
def test_a_copy_is_made_anew_when_anything_of_it_was_changed(
    host: Path, change: Callable[[Path], None]
) -> None:
    copies = Copies(look_s=0)
    before = copies.of((str(host),))
    assert copies.of((str(host),)) is before
    change(host)
    assert copies.of((str(host),)) not in (before, None)


def test_a_link_in_the_place_of_a_directory_is_followed(host: Path) -> None:
    copies, link = Copies(look_s=0), host.with_name("other")
    link.symlink_to(host)
    copy = copies.of((str(link),))
    assert copy is not None
    assert (f"{link}/ca.crt", b"one") in copy.files
    link.unlink()
    link.symlink_to(host / "java")
    assert copies.of((str(link),)) not in (copy, None)


def test_what_is_too_large_or_out_of_everybodys_reach_is_not_copied(
    host: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(copying, "MOST_BYTES", 3)
    assert Copies().of((str(host),)) is None
    monkeypatch.undo()
    host.parent.chmod(0o700)
    assert Copies().of((str(host),)) is None


@requires("user namespaces")
async def test_a_lock_that_somebody_has_on_a_file_in_it_is_not_in_the_way() -> None:
    snapshot = PolicySnapshot(DEFAULT_POLICY, revision=1)
    request = ScriptRequest(ScriptKind.SHELL, "flock -n -x /etc/passwd echo locked; flock -n -x /etc echo so")
    assert (await run_under(snapshot, request)).stdout == "locked\nso\n"
    if not SETTLED._made:
        pytest.skip("runs of this supervisor have its own uid")
    held = [
        os.open(f"{made.path}{name}", os.O_RDONLY)
        for made in SETTLED._made.values()
        for name in ("", "/passwd")
    ]
    try:
        for each in held:
            fcntl.flock(each, fcntl.LOCK_EX | fcntl.LOCK_NB)
        assert (await run_under(snapshot, request)).stdout == "locked\nso\n"
    finally:
        for each in held:
            os.close(each)
