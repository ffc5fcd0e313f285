"""No address has the process that sends messages read files of the host, or start programs."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from uuid import uuid4

import pytest
from ringfence_notifications.delivery.sending import DeliveryError, Outgoing, send

from tests.warm_start import cold

PROGRAM = """
import certifi, os, socket, subprocess, sys
from ringfence_notifications.delivery.confining import confine
file, link = sys.argv[1:]
confine()
tries = {
    "open": lambda: open(file),
    "bytes": lambda: open(file.encode()),
    "link": lambda: open(link),
    "os.open": lambda: os.open(file, os.O_RDONLY),
    "dots": lambda: open(os.path.dirname(certifi.where()) + "/../" * 30 + file),
    "beside": lambda: open(os.path.realpath(sys.path[-1]) + "-beside"),
    "process": lambda: open("/proc/self/environ"),
    "write": lambda: open(file + ".new", "w"),
    "run": lambda: subprocess.run(["/bin/true"]),
    "system": lambda: os.system("true"),
    "exec": lambda: os.execv("/bin/true", ["true"]),
    "spawn": lambda: os.posix_spawn("/bin/true", ["true"], {}),
    "fork": lambda: os.fork() or os._exit(0),
    "socket": lambda: socket.socket(socket.AF_UNIX).connect(file),
}
for name, attempt in tries.items():
    try:
        attempt()
        print(name, "was done")
    except PermissionError as error:
        assert str(error).startswith("an address"), error
import colorsys, mimetypes, zoneinfo
open(certifi.where()).close()
open(os.devnull).close()
mimetypes.init()
zoneinfo.ZoneInfo("Europe/Berlin")
print("the rest is there")
"""


def test_what_is_of_the_host_stays_out_of_reach_and_the_library_works(tmp_path: Path) -> None:
    file, link = tmp_path / "file.json", tmp_path / "link"
    file.write_text("{}")
    link.symlink_to(file)
    command = [sys.executable, "-c", PROGRAM, str(file), str(link)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (done.stdout, done.stderr) == ("the rest is there\n", "")


@pytest.mark.parametrize(
    "address",
    [
        "discord://4174216298/JHMHI8qBe7bk2ZwO5U711o3dV_js?template={file}",
        "slack://T1JJ3T3L2/A1BRTD4JD/TIiajkdnlazkcOXrIdevi7FQ/ops?template={file}",
    ],
)
async def test_a_file_that_an_address_names_is_not_sent(tmp_path: Path, address: str) -> None:
    file = tmp_path / "file.json"
    file.write_text('{"content": "the key", "text": "the key"}')
    message = Outgoing(uuid4(), "a title", "a text", "info")
    with cold(), pytest.raises(DeliveryError, match="could not be read"):
        await send(address.format(file=file), message)
