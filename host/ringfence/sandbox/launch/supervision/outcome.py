"""How a run went. A value."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ringfence.sandbox.launch.supervision.moments import Stop
from ringfence.sandbox.launch.supervision.state import Gathered


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a run went.

    `value` is what came on the channel, None if nothing did or it was too large. `link_ended` is why the link of a
    run with egress went away while the script still ran, None if it did not. `cpu_s` is the processor time of the whole
    tree, None where no cgroup accounts for it. `failure` says more about a stop, where there is more to say. `left` are
    the processes that could not be killed. `tried` is what it has tried on the network, if a
    relay made its connections. `state` is what it has left in its state directory; None if it has none, or
    did not end by itself.
    """

    exit_code: int
    stdout: str
    stderr: str
    stopped: Stop | None
    value: bytes | None
    value_too_large: bool
    prepare_s: float
    run_s: float
    link_ended: str | None = None
    cpu_s: float | None = None
    failure: str | None = None
    left: tuple[int, ...] = ()
    state: Gathered | None = None
    tried: Mapping[str, Any] | None = None
