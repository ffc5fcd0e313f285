"""Gives a spawner, and the userspace stacks that it starts, a `/dev/net/tun` of their own. Run as a script, by root.

Some hosts keep `/dev/net/tun` for root (mode 0600). Opening it up for everyone is not ours to do, and running
the stack as root, which reads what a hostile script sends, would be worse. So: a mount namespace that nobody else
is in, a device node in it for whoever is there, which are the stacks alone, and then the spawner as ever, which leaves
root.
What the device can do is decided by the network namespace in which it is used, and by capabilities there.

Arguments: the path of the spawner's script, then the spawner's own (uid, gid, and what else it takes). Descriptor 0 is
the spawner's socket; a failure is told on it in the spawner's words (`E` and the reason).
"""

from __future__ import annotations

import ctypes
import os
import runpy
import socket
import stat
import sys

CLONE_NEWNS = 0x0002_0000
MS_NOSUID, MS_NOEXEC, MS_REC, MS_SLAVE = 0x2, 0x8, 0x4000, 0x8_0000
DIRECTORY, DEVICE = "/dev/net", "/dev/net/tun"
NUMBER = os.makedev(10, 200)  # Documentation/admin-guide/devices.txt


def own_tun() -> None:
    """Make the namespace and the node. Raises OSError where that is not allowed."""
    libc = ctypes.CDLL(None, use_errno=True)

    def check(result: int, what: str) -> None:
        if result != 0:
            error = ctypes.get_errno()
            raise OSError(error, f"{what}: {os.strerror(error)}")

    check(libc.unshare(CLONE_NEWNS), "a mount namespace")
    # Slave, not private: what the host unmounts must not stay busy here.
    check(libc.mount(b"none", b"/", None, MS_REC | MS_SLAVE, None), "mounts of its own")
    check(
        libc.mount(b"tmpfs", DIRECTORY.encode(), b"tmpfs", MS_NOSUID | MS_NOEXEC, b"size=4k,mode=0755"),
        f"a tmpfs on {DIRECTORY}",
    )
    os.mknod(DEVICE, stat.S_IFCHR | 0o666, NUMBER)
    # As the umask would not have it.
    os.chmod(DEVICE, 0o666)  # noqa: S103 - in a namespace of the stacks' own


def main() -> None:
    """Make the device, then be the spawner."""
    spawner = sys.argv[1]
    try:
        own_tun()
    except OSError as error:
        with socket.socket(fileno=os.dup(0)) as requests:
            requests.send(f"E {error.strerror or error}".encode())
        return
    sys.argv = sys.argv[1:]
    runpy.run_path(spawner, run_name="__main__")


if __name__ == "__main__":
    main()
