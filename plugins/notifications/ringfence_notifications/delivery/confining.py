"""What the process that sends a message may not do, once it has its library: read files of the host, or start programs.

Threat: an address can name a file, as a template of the message or as a key (`?template=/path`), and its content would
be sent with the message. So whoever may manage channels would read what the host can read. Mechanism: a hook of the
interpreter's own refuses to open any file but the library's code and what names, certificates and times are looked up
in, to start programs, and to connect to sockets in the file system. It cannot be taken away again. Not covered: code
that is not Python, which the library brings none of that is led by an address.
"""

from __future__ import annotations

import mimetypes
import os
import sys
from typing import Any

_FILES = ("/etc/resolv.conf", "/etc/hosts", "/etc/localtime", "/dev/null", "/dev/urandom", "/dev/random")
_FOLDERS = ("/etc/ssl", "/etc/pki", "/usr/share/ca-certificates", "/usr/share/zoneinfo")
_CERTIFICATES = ("SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE")
_PROGRAMS = ("subprocess.", "os.exec", "os.posix_spawn", "os.spawn", "os.system", "os.fork", "pty.spawn")


def confine() -> None:
    """Have it so from now on, for this process."""
    folders = [*sys.path, *_FOLDERS, *(os.environ[name] for name in _CERTIFICATES if name in os.environ)]
    within = tuple(os.path.join(os.path.realpath(one), "") for one in folders if one)
    files = frozenset(map(os.path.realpath, (*_FILES, *mimetypes.knownfiles)))

    def look(event: str, args: tuple[Any, ...]) -> None:
        if event == "open":
            # A number is a file that is open already.
            if not isinstance(path := args[0], int) and not _is_among(path, within, files):
                raise PermissionError("an address leads to no files of the host")
        elif event == "socket.connect":
            if not isinstance(args[1], tuple):
                raise PermissionError("an address leads to no sockets of the host")
        elif event.startswith(_PROGRAMS):
            raise PermissionError("an address starts no programs")

    sys.addaudithook(look)


def _is_among(path: Any, within: tuple[str, ...], files: frozenset[str]) -> bool:
    real = os.path.realpath(os.fsdecode(path))
    return real in files or os.path.join(real, "").startswith(within)
