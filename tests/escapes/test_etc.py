"""The sandbox's `/etc`: what programs need of it, and none of the host's secrets."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path

import pytest

from tests.escapes.conftest import Supervisor
from tests.primitives import lacking

MADE = {"/etc/passwd", "/etc/group", "/etc/nsswitch.conf", "/etc/hosts", "/etc/hostname", "/etc/resolv.conf"}

READABLE = """
import json, os
found = []
for directory, _, names in os.walk('/etc'):
    for name in names:
        path = f'{directory}/{name}'
        try:
            with open(path, 'rb') as file:
                if file.read(1):
                    found.append(path)
        except OSError:
            pass
print(json.dumps(found))
"""


def everybodys(path: str) -> bool:
    """Whether everybody on the host may read what a path leads to, all the way."""
    real = Path(os.path.realpath(path))
    through = all(directory.stat().st_mode & stat.S_IXOTH for directory in real.parents)
    return through and bool(real.stat().st_mode & stat.S_IROTH)


@pytest.mark.every_wrapper
def test_what_can_be_read_there_everybody_on_the_host_can_read(supervisor: Supervisor) -> None:
    found = set(json.loads(supervisor.run("python", READABLE).stdout))
    assert found & MADE
    assert [path for path in found - MADE if not everybodys(path)] == []


@pytest.mark.parametrize(
    "path",
    [
        *("/etc/shadow", "/etc/shadow-", "/etc/gshadow", "/etc/sudoers", "/etc/machine-id", "/etc/fstab"),
        *(
            "/etc/ssh",
            "/etc/ssl/private",
            "/etc/pki/tls/private",
            "/etc/pip.conf",
            "/etc/npmrc",
            "/etc/wgetrc",
        ),
        *("/etc/environment", "/etc/krb5.keytab", "/etc/letsencrypt", "/etc/postgresql", "/etc/default"),
    ],
)
def test_what_may_hold_secrets_is_not_there(cold_supervisor: Supervisor, path: str) -> None:
    result = cold_supervisor.run("shell", f"ls -d {path}")
    assert result.exit_code != 0
    assert result.stdout == ""


NAMES = """
import mimetypes, pathlib, socket, ssl
print(socket.getservbyname('https'), socket.getprotobyname('udp'))
print(len(ssl.create_default_context().get_ca_certs()) > 0)
print(mimetypes.guess_type('page.html')[0])
"""


def test_programs_find_ports_protocols_authorities_and_types(cold_supervisor: Supervisor) -> None:
    for needed in ("/etc/services", "/etc/protocols", "/etc/ssl/certs/ca-certificates.crt"):
        if not Path(needed).exists():
            lacking(f"this machine lacks: {needed}")
    assert cold_supervisor.run("python", NAMES).stdout == "443 17\nTrue\ntext/html\n"
