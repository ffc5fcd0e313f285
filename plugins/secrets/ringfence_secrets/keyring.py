"""The keys that secrets are encrypted with: where they come from, and what they seal.

Threat: somebody gets hold of the database, or of a backup of it. Mechanism: a value is sealed with AES-256-GCM under a
key that is not in the database; the name of the secret is authenticated with it, so that whoever can write to the table
cannot have one secret given out under the name of another. Not covered: whoever has the key too, or can read this
process's memory; and the names, the times and roughly the lengths of secrets, which are in clear.

To rotate: put a new key first, keep the old one behind it, restart every instance, `ringfence secret reseal`, and then
take the old key away. New values are sealed with the first key; every key opens what was sealed with it.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import os
import secrets
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from ringfence.storage.files import write_private

from ringfence_secrets.service import SecretError

VARIABLE = "RINGFENCE_SECRETS_KEY"
FILE = "secrets-key"
KEY_BYTES = 32
NONCE_BYTES = 12
"""96 bits, drawn at random for each value: NIST SP 800-38D allows 2**32 of them under one key."""


class KeyringError(SecretError):
    """The keys cannot be read or made; the message says which and what to do."""


@dataclass(frozen=True, slots=True)
class Sealed:
    """An encrypted value, and the id of the key that opens it."""

    key_id: str
    data: bytes


@dataclass(frozen=True, slots=True)
class Key:
    """One key. Its id says which it is, and nothing about what it is."""

    secret: bytes = field(repr=False)

    @property
    def id(self) -> str:
        """The first half of a SHA-256 over the key, in hexadecimal, behind a label of its own."""
        return hashlib.sha256(b"ringfence secrets key id\0" + self.secret).hexdigest()[:32]

    @property
    def text(self) -> str:
        """The key itself, as settings and files have it."""
        return base64.b64encode(self.secret).decode()


class Keyring:
    """The first key seals; each opens what it has sealed."""

    def __init__(self, keys: Iterable[Key]) -> None:
        self._keys = tuple(keys)
        if not self._keys:
            raise KeyringError(f"{VARIABLE} does not hold a key: {_HOW}")

    @property
    def current_id(self) -> str:
        """The id of the key that new values are sealed with."""
        return self._keys[0].id

    def seal(self, name: str, value: str) -> Sealed:
        """Encrypt the value of the secret `name`."""
        nonce = secrets.token_bytes(NONCE_BYTES)
        key = self._keys[0]
        return Sealed(
            key.id, nonce + AESGCM(key.secret).encrypt(nonce, value.encode(), _bound_to(name, key.id))
        )

    def open(self, name: str, sealed: Sealed) -> str:
        """Decrypt it. Raises `SecretError` when no key fits, or when what is stored is not what was sealed."""
        key = next((key for key in self._keys if key.id == sealed.key_id), None)
        if key is None:
            raise SecretError(
                f"the secret {name} is sealed with the key {sealed.key_id}, which this instance does not have: "
                f"give every instance the same {VARIABLE}, or set the secret again"
            )
        nonce, data = sealed.data[:NONCE_BYTES], sealed.data[NONCE_BYTES:]
        try:
            return AESGCM(key.secret).decrypt(nonce, data, _bound_to(name, key.id)).decode()
        except (InvalidTag, ValueError) as error:
            raise SecretError(
                f"the secret {name} was changed in the database and cannot be opened: set it again"
            ) from error


def parse_keys(text: str) -> Keyring:
    """The keys of a text: base64, several separated by commas. Raises `KeyringError`."""
    return Keyring(_in_text(text))


def read_keyring(variable: str | None, directory: Path) -> Keyring:
    """The keys of `variable` (base64, several separated by commas), or those of the file in `directory` (one a line).

    Without either, a key is made and written to that file, readable by its owner alone.

    Raises:
        KeyringError: if a key is none, or the file cannot be read or made.
    """
    if not _is_set(variable):
        path = directory / FILE
        try:
            _make(path)
        except OSError as error:
            raise _unusable(path, error) from error
    return Keyring(keys_here(variable, directory))


def keys_here(variable: str | None, directory: Path) -> tuple[Key, ...]:
    """The same keys, and none if there are none yet. Raises `KeyringError`."""
    if variable is not None and _is_set(variable):
        return _in_text(variable)
    path = directory / FILE
    try:
        mode = path.stat().st_mode & 0o777
        if mode & 0o077:
            raise KeyringError(f"{path} can be read by others (mode {mode:03o}): chmod 600 {path}")
        lines = path.read_text().splitlines()
    except FileNotFoundError:
        return ()
    except OSError as error:
        raise _unusable(path, error) from error
    return tuple(_parse(line, str(path)) for line in lines if line.strip())


def add_to_file(directory: Path, texts: Iterable[str]) -> None:
    """Put keys behind those of the file in `directory`, which is made if need be. Raises `KeyringError`, `OSError`."""
    keys = [*keys_here(None, directory), *(_parse(one, "the backup") for one in texts)]
    lines = "".join(f"{text}\n" for text in dict.fromkeys(key.text for key in keys))
    write_private(directory / FILE, lines.encode())


def _is_set(variable: str | None) -> bool:
    return variable is not None and bool(variable.strip())


def _in_text(text: str) -> tuple[Key, ...]:
    return tuple(_parse(part, VARIABLE) for part in text.split(",") if part.strip())


def _unusable(path: Path, error: OSError) -> KeyringError:
    return KeyringError(f"cannot use the key file {path}: {error.strerror}; or set {VARIABLE}")


_HOW = "a key is 32 random bytes in base64, such as `head -c 32 /dev/urandom | base64` prints"


def _parse(text: str, where: str) -> Key:
    try:
        key = base64.b64decode(text.strip(), validate=True)
    except (binascii.Error, ValueError):
        key = b""
    if len(key) != KEY_BYTES:
        raise KeyringError(f"{where} does not hold a valid key: {_HOW}")
    return Key(key)


def _make(path: Path) -> None:
    """Make the key file unless it is there. It comes into being whole: two processes never end up with two keys."""
    if path.exists():
        return
    draft = path.with_name(f".{FILE}.{secrets.token_hex(8)}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(base64.b64encode(secrets.token_bytes(KEY_BYTES)) + b"\n")
            file.flush()
            os.fsync(file.fileno())
        try:
            os.link(draft, path)
        except FileExistsError:
            return
        _sync_directory(path.parent)
    finally:
        draft.unlink()


def _sync_directory(path: Path) -> None:
    """Have a directory's names survive a power failure (fsync(2)): with the key, all that it has sealed is lost."""
    directory = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


def _bound_to(name: str, key_id: str) -> bytes:
    return f"ringfence secret\0{name}\0{key_id}".encode()
