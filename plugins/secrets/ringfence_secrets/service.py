"""What the secrets plugin offers to other plugins: the values of named secrets, and a place for stores of their own."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Protocol

from sqlalchemy.ext.asyncio import AsyncSession

NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,63}")
"""A secret's name. One that is a variable's too can be given to a run without saying in which variable."""
USE = "secrets.secret.use"
"""The access rule that whoever has a secret given to a script must hold: a script can tell what it was given."""


class SecretError(RuntimeError):
    """A secret cannot be had; the message names it and says what to do, and never holds a value."""


class MissingSecretsError(SecretError):
    """No store has secrets of these names."""

    def __init__(self, names: Iterable[str]) -> None:
        self.names = tuple(sorted(names))
        super().__init__(
            f"secret {', '.join(self.names)} does not exist: set it with `ringfence secret set NAME`, "
            "or remove it from the check"
        )


class SecretStore(Protocol):
    """The extension point: a place that secrets come from. Those that plugins add are asked before the built-in one."""

    async def get(self, names: Collection[str]) -> Mapping[str, str]:
        """The values of those of `names` that this store has. Raises `SecretError` when it cannot answer."""


class SecretUser(Protocol):
    """The extension point: a plugin says which of its things have scripts given a secret, for whoever deletes it."""

    async def using(self, name: str) -> Sequence[str]:
        """Those that could not run without the secret, in words: `check disk`. A secret may have any number of them."""

    async def used(self) -> Mapping[str, int]:
        """The names of all secrets that its things use, each with how many of them do, whether it is there or not."""


class Secrets(Protocol):
    """The service: the values of secrets, just in time, for the run that is about to start."""

    async def get(self, names: Collection[str]) -> Mapping[str, str]:
        """The values of all of `names`. Raises `SecretError`, and `MissingSecretsError` unless there is each of them.

        The caller must not keep them, log them or send them anywhere but to the run.
        """


class KeptValues(Protocol):
    """The service: values that a plugin keeps for itself, encrypted as secrets are.

    No script can be given one, no route lists or shows it, and `ringfence secret reseal` seals it anew too. `plugin` is
    the id of whose they are, and what one plugin keeps is another's by no name.
    """

    async def keep(self, session: AsyncSession, plugin: str, name: str, value: str) -> None:
        """Keep a value under a name, in place of the one before it, if the transaction is committed.

        Raises `SecretError`.
        """

    async def forget(self, session: AsyncSession, plugin: str, name: str) -> None:
        """Forget a value, if there is one and the transaction is committed."""

    async def value(self, plugin: str, name: str) -> str:
        """The value. Raises `SecretError`, also if there is none."""
