"""The sandbox's `/etc`: made, not bound, so that no host secret is in it by oversight.

It holds what programs need in order to run and nothing that tells of the host: the one user there is, a name service
that reads files only, and the name of the sandbox. The time zone and the loader's cache are copied into it;
certificates and alternatives are the host's directories.
"""

from __future__ import annotations

from collections.abc import Mapping

from ringfence.sandbox.plan.environment import HOSTNAME, SCRATCH, USER

COPIED_FILES = (
    "/etc/ld.so.cache",
    "/etc/ld.so.conf",
    "/etc/ld-musl-x86_64.path",
    "/etc/ld-musl-aarch64.path",
    "/etc/localtime",
)
"""Files of the loader, which list libraries, and the time zone, copied where the host has them; none holds a secret."""


def files(uid: int, gid: int, nameservers: tuple[str, ...] = ()) -> Mapping[str, str]:
    """Each file of the made `/etc`, by its path, for a sandbox whose user has this uid and gid inside."""
    return {
        "/etc/passwd": f"{USER}:x:{uid}:{gid}:{USER}:{SCRATCH}:/bin/sh\n",
        "/etc/group": f"{USER}:x:{gid}:\n",
        "/etc/nsswitch.conf": "".join(f"{kind}: files\n" for kind in ("passwd", "group", "services"))
        + "hosts: files dns\n",
        "/etc/hosts": f"127.0.0.1 localhost {HOSTNAME}\n::1 localhost\n",
        "/etc/hostname": f"{HOSTNAME}\n",
        "/etc/resolv.conf": "".join(f"nameserver {address}\n" for address in nameservers),
    }
