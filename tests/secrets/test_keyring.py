"""What is sealed opens again under its own name and key, and in no other way."""

from __future__ import annotations

import base64
import os
import stat
from pathlib import Path

import pytest
from ringfence_secrets.keyring import FILE, Key, Keyring, KeyringError, Sealed, read_keyring
from ringfence_secrets.service import SecretError

VALUE = "correct horse battery staple"


def new_key() -> str:
    return base64.b64encode(os.urandom(32)).decode()


def keyring() -> Keyring:
    return Keyring([Key(os.urandom(32))])


def test_what_is_sealed_opens_again() -> None:
    keys = keyring()
    assert keys.open("A", keys.seal("A", VALUE)) == VALUE


def test_the_value_cannot_be_seen_and_two_seals_of_it_differ() -> None:
    keys = keyring()
    first, second = keys.seal("A", VALUE), keys.seal("A", VALUE)
    assert VALUE.encode() not in first.data
    assert first.data != second.data


def test_one_secret_cannot_be_given_out_as_another() -> None:
    keys = keyring()
    with pytest.raises(SecretError, match="B was changed in the database"):
        keys.open("B", keys.seal("A", VALUE))


@pytest.mark.parametrize("position", [0, 11, 12, -1])
def test_a_changed_byte_is_noticed(position: int) -> None:
    keys = keyring()
    sealed = keys.seal("A", VALUE)
    data = bytearray(sealed.data)
    data[position] ^= 1
    with pytest.raises(SecretError, match="was changed"):
        keys.open("A", Sealed(sealed.key_id, bytes(data)))


def test_another_key_says_which_one_is_wanted() -> None:
    sealed = keyring().seal("A", VALUE)
    with pytest.raises(SecretError, match=sealed.key_id):
        keyring().open("A", sealed)


def test_after_a_rotation_the_old_key_still_opens_and_the_new_one_seals() -> None:
    old, new = Key(os.urandom(32)), Key(os.urandom(32))
    sealed = Keyring([old]).seal("A", VALUE)
    both = Keyring([new, old])
    assert both.open("A", sealed) == VALUE
    assert both.seal("A", VALUE).key_id == new.id


def test_without_a_key_one_is_made_for_its_owner_alone_and_kept(tmp_path: Path) -> None:
    first = read_keyring(None, tmp_path)
    assert stat.S_IMODE((tmp_path / FILE).stat().st_mode) == 0o600
    assert read_keyring(None, tmp_path).open("A", first.seal("A", VALUE)) == VALUE
    assert [path.name for path in tmp_path.iterdir()] == [FILE]


def test_a_key_file_that_others_can_read_is_refused(tmp_path: Path) -> None:
    read_keyring(None, tmp_path)
    (tmp_path / FILE).chmod(0o644)
    with pytest.raises(KeyringError, match="chmod 600"):
        read_keyring(None, tmp_path)


def test_keys_from_the_environment_come_first(tmp_path: Path) -> None:
    keys = read_keyring(f"{new_key()}, {new_key()}", tmp_path)
    assert keys.open("A", keys.seal("A", VALUE)) == VALUE
    assert not (tmp_path / FILE).exists()


@pytest.mark.parametrize("text", ["short", base64.b64encode(b"x" * 31).decode(), ","])
def test_what_is_no_key_is_refused_without_being_shown(tmp_path: Path, text: str) -> None:
    with pytest.raises(KeyringError, match="32 random bytes") as error:
        read_keyring(text, tmp_path)
    assert text == "," or text not in str(error.value)


def test_a_key_does_not_show_itself() -> None:
    key = Key(b"k" * 32)
    assert "kkkk" not in repr(key)


def test_the_name_of_a_new_key_survives_a_power_failure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[str] = []
    fsync = os.fsync

    def noted(descriptor: int) -> None:
        synced.append(os.readlink(f"/proc/self/fd/{descriptor}"))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", noted)
    read_keyring(None, tmp_path)
    assert synced[-1] == str(tmp_path)
