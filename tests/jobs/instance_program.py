"""One host process of a test: `python -m tests.jobs.instance_program URL DIRECTORY [GONE_SECONDS]`.

Its clerk says what it begins.
"""

from __future__ import annotations

import asyncio
import logging
import sys
from pathlib import Path

import structlog
from ringfence import RunningJob
from ringfence.host import Host
from ringfence.jobs import worker
from ringfence.settings import HostSettings
from sqlalchemy.ext.asyncio import AsyncSession

from tests.jobs.clerk import Clerk, Task

BEAT_SECONDS, GONE_SECONDS = 0.2, 1.5
UNMARKED_SECONDS = 1.0


async def main(url: str, directory: str, gone_seconds: str = str(GONE_SECONDS)) -> None:
    """Run until standard input ends. What hangs has written before, and not committed."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    worker.BEAT_SECONDS, worker.GONE_SECONDS = BEAT_SECONDS, float(gone_seconds)
    worker.UNMARKED_SECONDS = UNMARKED_SECONDS
    clerk = Clerk()

    async def hang(job: RunningJob[Task], session: AsyncSession) -> None:
        await clerk.write(job, session)
        sys.stdout.write(f"{job.payload.name}\n")
        sys.stdout.flush()
        await asyncio.Event().wait()

    clerk.acts["hang"] = hang
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), sys.stdin
    )
    async with Host(HostSettings(database_url=url, data_dir=Path(directory)), plugins=[clerk]):
        await reader.read()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
