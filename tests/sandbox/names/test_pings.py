"""Echo requests: to hosts that are listed, where the host lets its users send them."""

from __future__ import annotations

import pytest

from tests.names_world import DEAD, METADATA, OTHER, SHARED, NamesWorld
from tests.primitives import requires
from tests.sandbox.names.attempts import network

pytestmark = [pytest.mark.slow, requires("root", "user namespaces", "ip")]


PING = """
for host; do ping -c 1 -W 1 "$host" >/dev/null 2>&1; echo $?; done
"""


@requires("ping")
def test_listed_hosts_can_be_pinged_and_others_cannot(names: NamesWorld, uid: int) -> None:
    policy = network("four.test:80", f"{OTHER}:80", f"{DEAD}:80", "six.test:80")
    hosts = ("four.test", "six.test", OTHER, "127.0.0.1", DEAD, SHARED, METADATA[0])

    result = names.run("shell", PING, policy=policy, uid=uid, args=hosts)

    *there, silent, unlisted, metadata = result.stdout.splitlines()
    assert there == ["0"] * 4, result.stderr
    # Nobody has answered; it could not be sent (ping(8)).
    assert silent == "1"
    assert "0" not in (unlisted, metadata)
