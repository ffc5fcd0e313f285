"""What of a host's `/etc` is shown to runs, and what in it is not everybody's."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest
from ringfence.sandbox.capabilities.layout import system_layout
from ringfence.sandbox.launch.making import furnishing
from ringfence.sandbox.plan import etc


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A host with the settings of a Java machine, some of which are not everybody's."""
    java = tmp_path / "etc/java-17-openjdk"
    for path, mode in (
        ("security/java.security", 0o644),
        ("security/keystore", 0o640),
        ("management/jmxremote.password", 0o600),
        ("private/key", 0o644),
    ):
        file = java / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()
        file.chmod(mode)
    (java / "private").chmod(0o700)
    (java / "link").symlink_to("/etc/shadow")
    (tmp_path / "usr/bin").mkdir(parents=True)
    (tmp_path / "bin").symlink_to("usr/bin")
    return tmp_path


def test_what_is_not_everybodys_is_named_and_what_is_beneath_it_is_left_to_that(root: Path) -> None:
    layout = system_layout(root)
    java = f"{root}/etc/java-17-openjdk"
    assert layout.links == (("/bin", "usr/bin"),)
    assert layout.etc == (java,)
    assert set(layout.closed_files) == {f"{java}/security/keystore", f"{java}/management/jmxremote.password"}
    assert layout.closed_directories == (f"{java}/private",)


def test_a_file_is_copied_only_if_everybody_may_read_it(tmp_path: Path) -> None:
    # Everybody may pass through the directories of this test but one.
    for directory in (tmp_path, *tmp_path.parents):
        if directory.stat().st_uid == tmp_path.stat().st_uid and not directory.stat().st_mode & stat.S_IXOTH:
            directory.chmod(directory.stat().st_mode | stat.S_IXOTH)
    file = tmp_path / "services"
    file.write_bytes(b"http 80/tcp\n")
    file.chmod(0o644)
    assert furnishing.copy(str(file)) == b"http 80/tcp\n"
    file.chmod(0o640)
    assert furnishing.copy(str(file)) is None
    assert furnishing.copy(str(tmp_path / "nothing")) is None
    assert furnishing.copy(str(tmp_path)) is None


def test_no_file_of_the_list_is_one_for_secrets() -> None:
    for path in etc.COPIED_FILES:
        assert not any(word in path for word in ("shadow", "private", "ssh", "key", "password", "secret"))
