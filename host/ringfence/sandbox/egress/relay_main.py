"""Reads the relay's program into a spawner, whose children are relays then without starting anything. Run as a script.

The supervisor's interpreter takes longer to start, and to import what the relay needs, than a sandbox does to be made.
This is done once here, while the process still has the supervisor's rights, and then it is the spawner as ever.

Arguments: the path of the spawner's script, then the spawner's own. Descriptor 0 is the spawner's socket; a failure is
told on it in the spawner's words (`E` and the reason).
"""

from __future__ import annotations

import contextlib
import importlib
import os
import runpy
import socket
import sys
from typing import Any

PACKAGES = "RINGFENCE_PACKAGES"
"""The variable with the places of packages (`processes.spawner`)."""


def read_program(spawner: str) -> None:
    """Import the relay, and have the spawner know it. Raises ImportError."""
    # Not by the names that these have for the host: that would import the host.
    sys.path[:0] = [os.path.dirname(os.path.abspath(spawner)), os.path.dirname(os.path.abspath(__file__))]
    # The relay needs one package of others (dnspython).
    sys.path += os.environ.pop(PACKAGES).split(os.pathsep)
    starting, relay = importlib.import_module("spawning.starting"), importlib.import_module("relaying.main")

    def be_relay(request: dict[str, Any], descriptors: list[int]) -> None:
        control, orders = descriptors
        with open(orders, "rb") as told, socket.socket(fileno=control) as end:
            relay.run(request["pid"], told.read(), end, bring_up=request["bring_up"])

    starting.CALLS["relay"] = be_relay
    # What the C library reads when it looks up its first name, it reads now. It may not find this one: an image of a
    # container may have no /etc/hosts.
    with contextlib.suppress(OSError):
        socket.getaddrinfo("localhost", None)


def main() -> None:
    """Read the program, then be the spawner."""
    spawner = sys.argv[1]
    try:
        read_program(spawner)
    except ImportError as error:
        with socket.socket(fileno=os.dup(0)) as requests:
            requests.send(f"E the relay cannot be imported: {error}".encode())
        return
    sys.argv = sys.argv[1:]
    runpy.run_path(spawner, run_name="__main__")


if __name__ == "__main__":
    main()
