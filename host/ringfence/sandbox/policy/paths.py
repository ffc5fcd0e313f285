"""Which paths of the host a policy may name, and for what."""

from __future__ import annotations

import posixpath

_NOT_PATHS = {
    **dict.fromkeys(("/proc", "/sys"), "filesystem.hostView shows what is there"),
    "/dev": "a run has devices of its own",
    **dict.fromkeys(("/tmp", "/packages"), "a run has one of its own"),  # noqa: S108 - inside the sandbox
    **dict.fromkeys(("/tmp/script", "/tmp/scratch", "/tmp/state", "/tmp/.shm"), "a run has one of its own"),  # noqa: S108
}
"""What cannot be shown, and why; of all but `/tmp`, nothing beneath can."""

_SOCKETS = frozenset(("/dev/log",))
"""Where programs look for a socket, though nothing else of the host can be shown there (syslog(3))."""

LONGEST_SOCKET = 107
"""How many bytes the path of a Unix socket may have, so that a program can name it (unix(7), sun_path)."""


def host_path(text: str) -> str:
    """The path, once it is known to be one that can be shown.

    Raises:
        ValueError: saying why it cannot be.
    """
    if not text.startswith("/"):
        raise ValueError(f"{text!r} is not an absolute path")
    if not text.isprintable():
        raise ValueError(f"{text!r} has characters in it that cannot be printed")
    if (plain := posixpath.normpath(f"/{text.lstrip('/')}")) != text:
        raise ValueError(f"{text!r} has another form: write {plain}")
    for place, why in _NOT_PATHS.items():
        if text == place or (place != "/tmp" and text.startswith(f"{place}/")):  # noqa: S108
            raise ValueError(f"{text!r} cannot be shown: {why}")
    return text


def socket_path(text: str) -> str:
    """The path, once it is known to be one at which a Unix socket can be shown.

    Raises:
        ValueError: saying why it cannot be.
    """
    if text not in _SOCKETS:
        host_path(text)
    if (size := len(text.encode())) > LONGEST_SOCKET:
        raise ValueError(
            f"{text!r} has {size} bytes; no program can name a socket of more than {LONGEST_SOCKET}"
        )
    if text == "/":
        raise ValueError("'/' is a directory, and no socket")
    return text
