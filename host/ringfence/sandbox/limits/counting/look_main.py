"""Looks at runs from within the user namespace of their uids, for a supervisor that is not root.

The kernel shows the descriptors of a process to its owner and to whoever has capabilities over it, and a supervisor has
those only where it has joined the namespace (user_namespaces(7)); that takes a process with a single thread, which it
is not. This process has joined, keeps of all capabilities only those to read, and ends with its host.

Protocol, over descriptor 0: for each run, one packet of JSON `{"init", "ownNetwork", "proc"}` and a socket of the run's
own. On that, each packet from the host asks for a look, with a limit or null, and is answered by what it told.
"""

from __future__ import annotations

import json
import os
import socket
import sys
import threading
from dataclasses import astuple

from ringfence.sandbox.limits.counting.namespace import NotSeen, TreeGone
from ringfence.sandbox.limits.counting.tree import Tree
from ringfence.sandbox.processes.spawning.containing import join
from ringfence.sandbox.processes.spawning.identity import keep_capabilities
from ringfence.sandbox.processes.spawning.packets import receive

CAP_DAC_READ_SEARCH, CAP_SYS_PTRACE = 2, 19

GONE, UNSEEN, SEEN = "gone", "unseen", "seen"


def main() -> None:
    """Join the namespace whose descriptor is the argument, say so, and serve until the host is gone."""
    requests = socket.socket(fileno=os.dup(0))
    join(int(sys.argv[1]))
    keep_capabilities(CAP_DAC_READ_SEARCH, CAP_SYS_PTRACE)
    requests.send(b"R")
    while True:
        data, received = receive(requests, 1024, 1)
        if not data:
            os._exit(0)
        if received:
            order = json.loads(data)
            serving = (socket.socket(fileno=received[0]), order["init"], order["ownNetwork"], order["proc"])
            threading.Thread(target=serve, args=serving, daemon=True).start()


def serve(end: socket.socket, init: int, own_network: bool, proc: str) -> None:
    """Look at one run whenever its socket asks, until that is closed."""
    tree = None
    with end:
        try:
            while question := end.recv(64):
                try:
                    tree = tree or Tree(init, own_network=own_network, proc=proc)
                    answer = [SEEN, *astuple(tree.look(json.loads(question)))]
                except TreeGone as error:
                    answer = [GONE, str(error)]
                except NotSeen as error:
                    answer = [UNSEEN, str(error)]
                end.send(json.dumps(answer).encode())
        except OSError:
            return  # The host has let go of this run.
        finally:
            if tree is not None:
                tree.close()
