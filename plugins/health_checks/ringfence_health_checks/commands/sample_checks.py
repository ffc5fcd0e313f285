"""Two checks that `ringfence up` gives the local satellite, so that there is something to see."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from ringfence.cli import ApiError, output
from ringfence_satellite.client import connected, local_id

from ringfence_health_checks.commands.api import CHECKS

if TYPE_CHECKING:
    from ringfence.cli import Line, Serving

NOTE = "sample-checks"
"""The file that says that they were made, so that whoever deletes them is rid of them."""

LOAD = """\
read -r one five fifteen _ </proc/loadavg
cores=$(nproc)
status=healthy
[ "${one%.*}" -lt "$((cores * 4))" ] || status=degraded
printf '{"status": "%s", "message": "load %s on %s cores", "metrics": {"load1": %s, "load5": %s, "load15": %s}}\\n' \\
  "$status" "$one" "$cores" "$one" "$five" "$fifteen"
"""

FENCE = """\
import socket


def main(context):
    \"\"\"Try what no script may under the shipped policy, and be content when it fails.\"\"\"
    held, open_ = [], []
    for name, attempt in {"shadow file": read_shadow, "metadata address": reach_metadata}.items():
        try:
            attempt()
        except OSError:
            held.append(name)
        else:
            open_.append(name)
    metrics = {"held": len(held)}
    if open_:
        return {"status": "degraded", "message": f"within reach: {', '.join(open_)}", "metrics": metrics}
    return {"status": "healthy", "message": f"out of reach: {', '.join(held)}", "metrics": metrics}


def read_shadow():
    open("/etc/shadow").close()


def reach_metadata():
    socket.create_connection(("169.254.169.254", 80), timeout=1).close()
"""


@asynccontextmanager
async def made_beside(instance: Serving) -> AsyncIterator[Sequence[Line]]:
    """Make them for the satellite that runs beside the instance, if one does."""
    satellite_id = local_id(instance.data_dir.path)
    if satellite_id is None:
        yield ()
        return
    await asyncio.to_thread(create_once, instance, satellite_id)
    satellite = await asyncio.to_thread(connected, instance.host, satellite_id)
    text = f"{instance.prefix}ringfence check list  (two samples look at this machine)"
    yield () if satellite is None else (("checks", text),)


def create_once(instance: Serving, satellite_id: str) -> None:
    """Make them for this satellite, unless that was done before; the rest of `up` does not depend on it."""
    if (instance.data_dir.path / NOTE).exists():
        return
    for check in _checks(satellite_id):
        try:
            instance.host.request("POST", CHECKS, body=check)
        except ApiError as error:
            if (
                error.status != 409
            ):  # there is one of that name: another host has made it in the same database
                output.note(f"The sample checks could not be made: {error.message}", style=output.WARN)
                return
    instance.data_dir.write_private(NOTE, "made\n")


def _checks(satellite_id: str) -> tuple[dict[str, Any], ...]:
    common = {"intervalSeconds": 10, "timeoutSeconds": 10, "runsOn": {"satellites": [satellite_id]}}
    return (
        {"name": "sample-load", "system": "this machine", "kind": "shell", "script": LOAD, **common},
        {"name": "sample-fence", "system": "the sandbox", "kind": "python", "script": FENCE, **common},
    )
