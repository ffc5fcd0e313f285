"""Several names at one address: whom a TLS client greets tells them apart."""

from __future__ import annotations

from tests.names_world import OTHER, SHARED, NamesWorld
from tests.primitives import requires
from tests.sandbox.names.attempts import attempt, network

pytestmark = requires("root", "user namespaces", "ip")


def test_several_names_at_one_address_are_told_apart_by_their_tls_greeting(
    names: NamesWorld, uid: int
) -> None:
    allowed, other, nobody, on_address = attempt(
        names,
        uid,
        network("one.shared.test:443", f"{OTHER}:443"),
        ("tls", "one.shared.test", 443, "one.shared.test"),
        ("tls", "one.shared.test", 443, "two.shared.test"),
        ("tls", "one.shared.test", 443, "one.shared.test.evil.test"),
        ("tls", OTHER, 443, "two.shared.test"),
    )

    assert allowed == f"reached {SHARED} 443 one.shared.test"
    for cut in (other, nobody):
        assert "reached" not in cut
        assert cut != "timeout"
    # An address that the policy lists is not only a name's.
    assert on_address == f"reached {OTHER} 443 two.shared.test"


def test_the_greeting_is_not_looked_at_if_the_policy_says_so(names: NamesWorld, uid: int) -> None:
    [outcome] = attempt(
        names,
        uid,
        network("one.shared.test:443", checkServerName=False),
        ("tls", "one.shared.test", 443, "two.shared.test"),
    )

    assert outcome == f"reached {SHARED} 443 two.shared.test"


SPLIT = """
import socket, ssl, time
def main(context):
    return [[greet(greets, size) for size in (1, 40, 5000)] for greets in context]
def greet(greets, size):
    into, out = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = ssl.create_default_context()
    client.check_hostname, client.verify_mode = False, ssl.CERT_NONE
    tls = client.wrap_bio(into, out, server_hostname=greets)
    with socket.create_connection(("one.shared.test", 443), 20) as end:
        end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            while True:
                try:
                    tls.do_handshake()
                    break
                except ssl.SSLWantReadError:
                    sent = out.read()
                    for place in range(0, len(sent), size):
                        end.sendall(sent[place : place + size])
                    if not (more := end.recv(65536)):
                        return "cut"
                    into.write(more)
        except ConnectionError:
            return "cut"
        return "greeted"
"""


def test_a_greeting_in_pieces_hides_nothing(names: NamesWorld, uid: int) -> None:
    greets = ["one.shared.test", "two.shared.test"]
    result = names.run("python", SPLIT, policy=network("one.shared.test:443"), uid=uid, context=greets)

    assert result.value == [["greeted"] * 3, ["cut"] * 3], result.stderr
