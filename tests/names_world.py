"""A network of names of the tests' own: name servers, web servers and dead hosts, and supervisors that live in it.

Everything is in one network namespace, whose hosts are addresses on its loopback interface, and whose only other link
leads nowhere: no packet leaves the machine, also when what is tested is broken. The name servers, and the files by
which a system finds them, are the world's own. It has no tun device.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests import world
from tests.certificates import private_tls
from tests.waiting import next_line

API, API6 = "10.9.0.1", "2001:db8:9::1"
"""What most names mean."""

OTHER, OTHER6 = "10.9.0.2", "2001:db8:9::2"
SHARED = "10.9.0.3"
"""Where several names live."""

DEAD, GONE = "10.8.0.66", "10.9.7.1"
"""Hosts that answer nothing, and that no way leads to."""

METADATA = ("169.254.169.254", "fd00:ec2::254")
LINK_LOCAL6 = "fe80::8"
ADDRESSES = (API, API6, OTHER, OTHER6, SHARED, "10.9.0.53", "2001:db8:9::53", *METADATA)

STUB, DIRECT = "nameserver 127.0.0.53\noptions edns0\n", "nameserver 10.9.0.53\n"
"""What a system's resolv.conf says: a resolver on its own loopback, as with systemd, or one elsewhere."""

QUICK = "options timeout:1 attempts:1\n"

ZONE: dict[str, dict[str, Any]] = {
    "api.test": {"A": [API], "AAAA": [API6], "MX": ["10 mail.test."], "TXT": ['"some text"'], "ttl": 1},
    "mail.test": {"A": [OTHER]},
    "four.test": {"A": [API]},
    "six.test": {"AAAA": [API6]},
    "empty.test": {"TXT": ['"nothing else"']},
    "other.test": {"A": [OTHER]},
    "one.shared.test": {"A": [SHARED]},
    "two.shared.test": {"A": [SHARED]},
    "alias.test": {"CNAME": "second.test."},
    "second.test": {"CNAME": "third.test."},
    "third.test": {"A": [API]},
    "circle.test": {"CNAME": "circle.test."},
    "*.wild.test": {"A": [API]},
    "*.many.test": {"A": [API]},
    "_postgresql._tcp.api.test": {"SRV": ["1 2 5432 other.test."]},
    "dead.test": {"A": [DEAD]},
    "gone.test": {"A": [GONE]},
    "half.test": {"A": [DEAD, API]},
    "metadata.test": {"A": ["169.254.169.254"]},
    "metadata6.test": {"AAAA": ["fd00:ec2::254"]},
    "loopback.test": {"A": ["127.0.0.1"]},
    "loopback6.test": {"AAAA": ["::1"]},
    "loopback9.test": {"A": ["127.9.9.9"]},
    "mapped.test": {"AAAA": ["::ffff:127.0.0.1"]},
    "mapped-metadata.test": {"AAAA": ["::ffff:169.254.169.254"]},
    "nat64.test": {"AAAA": ["64:ff9b::a9fe:a9fe"]},
    "unspecified.test": {"A": ["0.0.0.0"]},
    "unspecified6.test": {"AAAA": ["::"]},
    "link-local.test": {"A": ["169.254.7.7"]},
    "link-local6.test": {"AAAA": [LINK_LOCAL6]},
    "broadcast.test": {"A": ["255.255.255.255"]},
    "multicast.test": {"A": ["224.0.0.1"], "AAAA": ["ff02::1"]},
    "mixed.test": {"A": ["169.254.169.254", API, "127.0.0.1"], "ttl": 1},
    "aliased-metadata.test": {"CNAME": "metadata.test."},
    "failing.test": {"rcode": "SERVFAIL", "slow": 0},
    "refused.test": {"rcode": "REFUSED"},
    "silent.test": {"silent": True},
    "nonsense.test": {"nowhere": True},
    "slow.test": {"A": [API], "slow": 1},
    "large.test": {
        "A": [f"10.9.1.{n}" for n in range(1, 61)],
        "TXT": [f'"{"x" * 250}"'] * 20,
        "truncated": True,
    },
    "service.corp.test": {"A": [API]},
}

# The files by which a system finds names, no device for a userspace stack, and nothing that is not to be installed.
_MAKE = """
set -e
mount --make-rprivate /
mount -t tmpfs -o mode=755 tmpfs /dev/net
mount -t tmpfs -o mode=755 tmpfs /srv
for file in resolv.conf hosts nsswitch.conf; do mount --bind "$DIRECTORY/$file" /etc/$file; done
for program in $MISSING; do
  path=$(command -v "$program") && mount --bind /dev/null "$(readlink -f "$path")"
done
ip link set lo up
ip link add outside0 type veth peer name outside1
ip address add 10.8.0.1/24 dev outside0
ip address add 2001:db8:8::1/64 dev outside0 nodad
ip link set outside0 up
ip link set outside1 up
ip neighbour add "$DEAD" lladdr 02:00:00:00:00:66 dev outside0 nud permanent
ip route add unreachable "$GONE"
ip route add default via 10.8.0.2
ip route add default via 2001:db8:8::2
echo "$PING" >/proc/sys/net/ipv4/ping_group_range
for address; do ip address add "$address" dev lo nodad 2>/dev/null || ip address add "$address" dev lo; done
echo made
exec "$PYTHON" "$HOSTS" "$DIRECTORY" "$@"
"""


class NamesWorld(world.World):
    """The world, and what its name servers know. Its directory is what it shares with them."""

    def __init__(self, pid: int, directory: Path, ca: str) -> None:
        super().__init__(pid)
        self.directory = directory
        self.ca = ca

    def name(self, name: str, **records: Any) -> str:
        """Have the name servers know a name from now on, by itself or in place of what they knew."""
        _write_zone(self.directory, {**json.loads((self.directory / "zone.json").read_text()), name: records})
        return name

    def queries(self, name: str) -> list[str]:
        """What was asked about a name: `udp name A` and so on, in the order in which it came."""
        noted = (self.directory / "queries").read_text().splitlines()
        return [line for line in noted if line.split(" ")[1] == name]

    @contextlib.contextmanager
    def resolving(self, resolv_conf: str = STUB, hosts: str = "") -> Iterator[None]:
        """Have the system resolve names in another way, until the block ends."""
        try:
            self._set(resolv_conf, hosts)
            yield
        finally:
            self._set(STUB, "")

    def _set(self, resolv_conf: str, hosts: str) -> None:
        # In place: they are mounted elsewhere.
        (self.directory / "resolv.conf").write_text(resolv_conf)
        (self.directory / "hosts").write_text(f"127.0.0.1 localhost\n::1 localhost\n{hosts}")

    def start(self, *command: str, **options: Any) -> subprocess.Popen[str]:
        """Start a program in this world, outside of any sandbox."""
        inside = ["nsenter", f"--target={self.pid}", "--net", "--mount", "--", *command]
        return subprocess.Popen(inside, text=True, cwd="/", **options)


def _write_zone(directory: Path, zone: dict[str, Any]) -> None:
    new = directory / "zone.json.new"
    new.write_text(json.dumps(zone))
    new.rename(directory / "zone.json")


@contextlib.contextmanager
def names_world(directory: Path, *, poor: bool = False) -> Iterator[NamesWorld]:
    """Make a world; it is gone with the context, with all that is in it.

    In a `poor` one, no userspace stack and no packet filter is installed, and the kernel lets no ordinary user send
    ICMP echo requests.
    """
    directory.chmod(0o755)
    tls = private_tls(directory, "api.test", "four.test", "other.test", "*.shared.test")
    (directory / "www").mkdir()
    (directory / "queries").touch()
    (directory / "nsswitch.conf").write_text("passwd: files\ngroup: files\nhosts: files dns\n")
    for name in ("resolv.conf", "hosts"):
        (directory / name).touch()
    _write_zone(directory, ZONE)
    hosts = Path(world.__file__).with_name("names_hosts.py")
    addresses = [f"{address}/{128 if ':' in address else 32}" for address in (*ADDRESSES, LINK_LOCAL6)]
    with subprocess.Popen(
        ["unshare", "--net", "--mount", "--", "sh", "-c", _MAKE, "world", *addresses],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={
            **os.environ,
            "DIRECTORY": str(directory),
            "PYTHON": sys.executable,
            "HOSTS": str(hosts),
            "DEAD": DEAD,
            "GONE": GONE,
            "PING": "1 0" if poor else "0 2147483647",
            "MISSING": "slirp4netns pasta nft" if poor else "",
        },
    ) as process:
        try:
            for expected in ("made\n", "listening\n"):
                assert next_line(process.stdout, f"that the world is {expected}") == expected
            made = NamesWorld(process.pid, directory, tls.ca_file.read_text())
            made._set(STUB, "")
            try:
                yield made
            finally:
                made.close()
        finally:
            process.communicate()
