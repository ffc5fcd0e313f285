"""Run a command as root in a virtual machine that has this machine's files, a stock kernel and cgroup v2.

    python -m tools.vm .venv/bin/python -m pytest tests/cgroups

The command runs in this checkout. What it writes goes to the machine's memory and is lost with it: the files here are
read-only to it, and no network is. Output and exit status are the command's; 125 says that the machine did not come so
far. It needs qemu, and a kernel with its modules: this machine's own, or one that `tools/system-packages all` has
unpacked into .vm. It uses KVM where that works, and is slow elsewhere.
"""

from __future__ import annotations

import argparse
import sys

from tools.vm.machine import LacksMachine, run


def main() -> int:
    """Run the command of the arguments and return its exit status."""
    parser = argparse.ArgumentParser(
        "python -m tools.vm", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--timeout", type=float, default=900, help="seconds until the machine is ended")
    parser.add_argument("--memory", type=int, default=3072, help="MiB of memory")
    parser.add_argument("--emulated", action="store_true", help="without KVM, even where it works")
    parser.add_argument("command", nargs=argparse.REMAINDER)
    options = parser.parse_args()
    if not options.command:
        parser.error("no command is given")
    try:
        return run(
            options.command,
            output=sys.stdout.fileno(),
            timeout_s=options.timeout,
            memory_mib=options.memory,
            emulated=options.emulated,
        )
    except LacksMachine as error:
        print(f"no virtual machine: {error}", file=sys.stderr)  # noqa: T201
        return 125


if __name__ == "__main__":
    sys.exit(main())
