"""Makes locks, and gets their files, from the registries that are configured when it is asked."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from contextlib import aclosing, asynccontextmanager

from pydantic import ValidationError
from ringfence.redaction import problems
from ringfence.scripts.packages.lock import Ecosystem, Lock, LockedFile, Requirement
from ringfence.scripts.packages.platform import Platform

from ringfence_script_packages.packages.errors import PackagesError, Why
from ringfence_script_packages.packages.ports import Progress
from ringfence_script_packages.packages.resolving.audit import Audit, audit
from ringfence_script_packages.packages.resolving.client import RegistryClient, SecretValues
from ringfence_script_packages.packages.resolving.fetching import FileFetcher
from ringfence_script_packages.packages.resolving.machine import registries_of
from ringfence_script_packages.packages.resolving.node_packages import resolve_node
from ringfence_script_packages.packages.resolving.python_packages import resolve_python
from ringfence_script_packages.packages.resolving.registries import Registries, RegistrySettings


class RegistryPackages:
    """Implements `Resolver` and `Fetcher`. `secrets` gives credentials, if there is whoever has them."""

    def __init__(
        self,
        settings: RegistrySettings,
        secrets: SecretValues | None = None,
        *,
        ask: Callable[[RegistrySettings], Registries] = registries_of,
    ) -> None:
        self._settings = settings
        self._secrets = secrets
        self._ask = ask
        self._found: Registries | None = None

    async def resolve(
        self,
        requirements: Sequence[Requirement],
        platforms: Sequence[Platform],
        progress: Progress,
        *,
        previous: Lock | None = None,
        requires_python: str | None = None,
    ) -> Lock:
        """See `Resolver`. The machine's tools are asked anew which registries they are configured for."""
        self._found = None
        before = previous or Lock()
        python = [each.text for each in requirements if each.ecosystem is Ecosystem.PYPI]
        node = [each.text for each in requirements if each.ecosystem is Ecosystem.NPM]
        async with self.connected() as client:
            fetcher = FileFetcher(client)
            count = 0

            def asked(name: str) -> None:
                nonlocal count
                count += 1
                progress(f"asking the registry for {name} ({count})")

            packages, requires = (
                await resolve_python(
                    python,
                    platforms,
                    client,
                    fetcher,
                    asked,
                    previous=before.python,
                    requires_python=requires_python,
                )
                if python
                else ((), None)
            )
            places = (
                await resolve_node(node, platforms, client, fetcher, asked, previous=before.node)
                if node
                else ()
            )
        try:
            return Lock(
                requirements=tuple(requirements), python=packages, node=places, requires_python=requires
            )
        except ValidationError as error:
            raise PackagesError(
                Why.FAILED, f"what the registries offer cannot be locked: {problems(error)}"
            ) from error

    async def fetch(self, file: LockedFile) -> AsyncGenerator[bytes, None]:
        """See `Fetcher`."""
        async with self.connected() as client, aclosing(FileFetcher(client).fetch(file)) as pieces:
            async for piece in pieces:
                yield piece

    async def audit(self, lock: Lock) -> Audit:
        """What the registries know of vulnerabilities in a lock's packages, and what could not be asked."""
        async with self.connected() as client:
            return await audit(lock, client)

    @asynccontextmanager
    async def connected(self) -> AsyncIterator[RegistryClient]:
        """A client for the registries that are configured now."""
        client = RegistryClient(await self._registries(), self._secrets)
        try:
            yield client
        finally:
            await client.aclose()

    async def _registries(self) -> Registries:
        if self._found is None:
            self._found = await asyncio.to_thread(self._ask, self._settings)
        return self._found
