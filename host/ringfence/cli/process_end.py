"""The end of a process that has run plugins: what will not end is named, and not waited for.

Threat: a plugin's task that ignores its cancellation, or a thread of its that does not return. Python waits for both,
for ever, so that a host which has long let go of everything is still there, and only `kill -9` helps. Mechanism: after
`END_SECONDS` the process ends without them. Everything of the host's own has been stopped in good order by then.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any, TypeVar

from ringfence.cli import output

if TYPE_CHECKING:
    import asyncio

END_SECONDS = 3.0

T = TypeVar("T")
_left: list[str] = []


def run(work: Coroutine[Any, Any, T]) -> T:
    """As `asyncio.run`. What would keep that from returning is left to `exit_now`."""
    import asyncio

    runner = asyncio.Runner()
    try:
        return runner.run(work)
    finally:
        _left.extend(runner.run(_end_the_rest()))
        if not _left:
            runner.close()


def exit_now(status: str | int | None) -> None:
    """End the process at once with the status of a `SystemExit`, if `run` has left something behind; or return."""
    if not _left:
        return
    output.note(
        f"The command ends now and does not wait for {', '.join(_left)}, which did not stop.",
        style=output.WARN,
    )
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status if isinstance(status, int) else int(status is not None))


async def _end_the_rest() -> list[str]:
    """Cancel what still runs, and have the threads that plugins were lent end; names what does not."""
    import asyncio

    rest = asyncio.all_tasks() - {asyncio.current_task()}
    for task in rest:
        task.cancel()
    stubborn: set[asyncio.Task[Any]] = set()
    if rest:
        _, stubborn = await asyncio.wait(rest, timeout=END_SECONDS)
    threads = asyncio.create_task(asyncio.get_running_loop().shutdown_default_executor())
    await asyncio.wait({threads}, timeout=END_SECONDS)
    return [task.get_name() for task in stubborn] + ([] if threads.done() else ["a thread"])
