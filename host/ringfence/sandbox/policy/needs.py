"""What a check or an action says that it needs, and what it gets of it: the policy is the ceiling.

Threat: whoever may write a check, and not the policy, gets more than the policy gives. Mechanism: needs can only take
away. `narrow` is a pure function that keeps of each part what both have, so that whatever is written in needs, the
result is never looser than the ceiling. Not covered here: a path of the host that leads elsewhere by a link, which is
judged where links are followed (see `host_view`).
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Annotated, Any, NamedTuple, Self

from pydantic import (
    AfterValidator,
    Field,
    SerializerFunctionWrapHandler,
    StrictInt,
    ValidationError,
    model_serializer,
)

from ringfence.sandbox.policy.coverage import Reached, shows
from ringfence.sandbox.policy.model import (
    LARGEST_LIMIT,
    LARGEST_STATE,
    MOST_HOST_PATHS,
    Entry,
    Filesystem,
    FilesystemMode,
    HostPath,
    HostView,
    MiB,
    Network,
    NetworkMode,
    Part,
    Resources,
    SandboxPolicy,
    once,
    problems_of,
)

MOST_NEEDED = 256
"""The most destinations that needs may name."""


class NeedsError(ValueError):
    """Needs that cannot be read; `problems` lists every fault with its path."""

    def __init__(self, problems: tuple[str, ...]) -> None:
        super().__init__("invalid needs: " + "; ".join(problems))
        self.problems = problems


def _at_least(least: int, most: int = LARGEST_LIMIT) -> Any:
    return Field(default=None, ge=least, le=most)


class Needs(Part):
    """What is needed. Of the network and the host it is all that there will be; a limit left out is the policy's."""

    network: Annotated[tuple[Entry, ...], Field(max_length=MOST_NEEDED), AfterValidator(once)] = ()
    host_paths: Annotated[tuple[HostPath, ...], Field(max_length=MOST_HOST_PATHS), AfterValidator(once)] = ()
    host_view: Annotated[tuple[HostView, ...], AfterValidator(once)] = ()
    cpu_seconds: StrictInt | None = _at_least(1)
    memory_bytes: StrictInt | None = _at_least(16 * MiB)
    max_open_files: StrictInt | None = _at_least(16)
    max_processes: StrictInt | None = _at_least(1)
    max_output_bytes: StrictInt | None = _at_least(0)
    max_file_size_bytes: StrictInt | None = _at_least(0)
    max_scratch_bytes: StrictInt | None = _at_least(64 * 1024)
    max_state_bytes: StrictInt | None = _at_least(4096, LARGEST_STATE)

    @classmethod
    def parse(cls, obj: object) -> Self:
        """Read needs strictly.

        Raises:
            NeedsError: with every problem, each under its path.
        """
        try:
            return cls.model_validate(obj, by_alias=True, by_name=False)
        except ValidationError as error:
            raise NeedsError(tuple(problems_of(error, "needs"))) from error

    @model_serializer(mode="wrap")
    def _named(self, serialize: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """What is named alone."""
        return {name: value for name, value in serialize(self).items() if value not in (None, [], ())}

    def to_wire(self) -> dict[str, Any]:
        """The JSON form, of what is named alone."""
        return self.model_dump(mode="json", by_alias=True)


class Missing(NamedTuple):
    """A line that the policy would have to have for what is needed; `path` is dotted, in wire names."""

    path: str
    value: object

    def __str__(self) -> str:
        return f"{self.path}: {json.dumps(self.value, ensure_ascii=False)}"


def narrow(ceiling: SandboxPolicy, needs: Needs) -> SandboxPolicy:
    """The policy for something that needs this: what of it is within the ceiling, and nothing more.

    Files of the host are shown by name alone, also under a policy that keeps all of them (`filesystem.mode` off).
    """
    network, filesystem = ceiling.network, ceiling.filesystem
    reached = Reached(network)
    allow = tuple(text for text in needs.network if reached.covers(text))
    mode = filesystem.mode
    return ceiling.model_copy(
        update={
            "resources": _resources(ceiling.resources, needs),
            "filesystem": Filesystem(
                mode=FilesystemMode.SCRATCH_PLUS_RO if mode is FilesystemMode.OFF else mode,
                host_paths=tuple(path for path in needs.host_paths if shows(filesystem, path)),
                host_view=tuple(view for view in needs.host_view if view in filesystem.host_view),
            ),
            "network": Network(
                mode=NetworkMode.ALLOWLIST if allow else NetworkMode.DENY,
                allow=allow,
                deny_link_local_and_metadata=network.deny_link_local_and_metadata,
                check_server_name=network.check_server_name,
            ),
        }
    )


def without_needs(ceiling: SandboxPolicy) -> SandboxPolicy:
    """What something gets that does not say what it needs, if the policy requires it to: the plain sandbox."""
    return narrow(ceiling, Needs())


def governing(ceiling: SandboxPolicy, needs: Needs | None) -> SandboxPolicy:
    """The policy for something with these needs; None if it does not say what it needs."""
    if needs is not None:
        return narrow(ceiling, needs)
    return without_needs(ceiling) if ceiling.needs_required else ceiling


def beyond(ceiling: SandboxPolicy, needs: Needs) -> tuple[Missing, ...]:
    """What of the needs is beyond the ceiling. A policy that turns the sandbox off has no ceiling."""
    return tuple(_beyond(ceiling, needs)) if ceiling.enabled else ()


def _beyond(ceiling: SandboxPolicy, needs: Needs) -> Iterator[Missing]:
    network, filesystem = ceiling.network, ceiling.filesystem
    if needs.network and network.mode is NetworkMode.DENY:
        yield Missing("network.mode", NetworkMode.ALLOWLIST.value)
        network = network.model_copy(update={"mode": NetworkMode.ALLOWLIST})
    reached = Reached(network)
    for text in needs.network:
        if not reached.covers(text):
            yield Missing("network.allow", text)
    for path in needs.host_paths:
        if not shows(filesystem, path):
            yield Missing("filesystem.hostPaths", path)
    for view in needs.host_view:
        if view not in filesystem.host_view:
            yield Missing("filesystem.hostView", view.value)
    for name, field in Resources.model_fields.items():
        wanted = getattr(needs, name)
        if wanted is not None and wanted > getattr(ceiling.resources, name):
            yield Missing(f"resources.{field.alias}", wanted)


def _resources(ceiling: Resources, needs: Needs) -> Resources:
    least = {
        name: min(getattr(ceiling, name), wanted)
        for name in Resources.model_fields
        if (wanted := getattr(needs, name)) is not None
    }
    return ceiling.model_copy(update=least)
