"""The sandbox's `/etc`: made, not bound, so that no host secret is in it by oversight.

It holds what programs need in order to run and nothing that tells of the host: the one user there is, a name service
that reads files only, and the name of the sandbox. What describes protocols, types of files and the system is copied
into it, if it is everybody's to read; certificates, alternatives and the settings of Java are the host's directories
(see `capabilities.layout`).
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
    "/etc/timezone",
    *("/etc/services", "/etc/protocols", "/etc/mime.types"),
    *("/etc/ssl/openssl.cnf", "/etc/pki/tls/openssl.cnf"),
    "/etc/os-release",
)
"""Copied where the host has them: files of the loader, which list libraries, the time zone, what numbers of ports and
protocols are called, types of files, how OpenSSL is set up, and which system it is. None is for secrets."""

NAMED_BY_FILES = ("passwd", "group", "shadow", "networks", "protocols", "services", "ethers", "rpc")


def files(uid: int, gid: int, nameservers: tuple[str, ...] = ()) -> Mapping[str, str]:
    """Each file of the made `/etc`, by its path, for a sandbox whose user has this uid and gid inside."""
    return {
        "/etc/passwd": f"{USER}:x:{uid}:{gid}:{USER}:{SCRATCH}:/bin/sh\n",
        "/etc/group": f"{USER}:x:{gid}:\n",
        "/etc/nsswitch.conf": "".join(f"{kind}: files\n" for kind in NAMED_BY_FILES) + "hosts: files dns\n",
        "/etc/hosts": f"127.0.0.1 localhost {HOSTNAME}\n::1 localhost\n",
        "/etc/hostname": f"{HOSTNAME}\n",
        "/etc/resolv.conf": "".join(f"nameserver {address}\n" for address in nameservers),
    }
