"""Bounds its own process, for good, and then becomes git. Run as a script, with the standard library alone.

It decides nothing: its orders are the first argument, in JSON; the others are the program to become. Where the kernel
has no Landlock, `landlock` says nothing. If an order cannot be carried out, it ends with 125, and the program never
starts.
"""

from __future__ import annotations

import ctypes
import importlib.util
import json
import os
import resource
import signal
import sys

PR_SET_PDEATHSIG = 1


def main() -> None:
    """Do it."""
    orders = json.loads(sys.argv[1])
    try:
        libc = ctypes.CDLL(None, use_errno=True)
        libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if os.getppid() != orders["parent"]:
            os._exit(125)
        for name, most in orders["limits"].items():
            kind = getattr(resource, name)
            _, hard = resource.getrlimit(kind)
            most = most if hard == resource.RLIM_INFINITY else min(most, hard)
            resource.setrlimit(kind, (most, most))
        if (landlock := orders["landlock"]) is not None:
            spec = importlib.util.spec_from_file_location("landlock", orders["landlockProgram"])
            assert spec is not None
            assert spec.loader is not None
            confining = importlib.util.module_from_spec(spec)
            spec.loader.exec_module(confining)
            confining.confine(landlock)
        # What is ignored is inherited. A file that grows too large is an error that git tells, and not its silent end.
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        os.execv(sys.argv[2], sys.argv[2:])  # noqa: S606 - becoming the program is the point
    except OSError as error:
        sys.stderr.write(f"git cannot be bounded: {error}\n")
        os._exit(125)


if __name__ == "__main__":
    main()
