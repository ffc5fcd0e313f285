"""Names in the allowlist: what is resolved, how, and what that opens."""

from __future__ import annotations

import pytest

from tests.names_world import API, API6, DIRECT, OTHER, QUICK, SHARED, STUB, NamesWorld
from tests.primitives import requires
from tests.sandbox.names.attempts import BLOCKED, answer, attempt, network, query, run

pytestmark = requires("root", "user namespaces", "ip")

OWN = ("127.0.0.1", 53)
"""Where the run's own resolver is."""


def test_a_listed_name_is_resolved_and_reached_and_others_are_not_even_asked_for(
    names: NamesWorld, uid: int
) -> None:
    outcomes = attempt(
        names,
        uid,
        network("api.test:80"),
        ("look", "api.test"),
        ("web", "api.test"),
        ("web", API6, 80, "api.test"),
        ("look", "unlisted.test"),
        ("look", "mail.test"),
        ("web", API, 81),
        ("web", OTHER),
    )

    assert outcomes[0] == [API, API6]
    assert outcomes[1] in (f"reached {API} 80 api.test", f"reached {API6} 80 api.test")
    assert outcomes[2] == f"reached {API6} 80 api.test"
    assert all(outcome.startswith("EAI_") for outcome in outcomes[3:5])
    assert set(outcomes[5:]) <= BLOCKED
    assert names.queries("unlisted.test") == names.queries("mail.test") == []


def test_an_address_is_open_only_after_its_name_was_asked_for(names: NamesWorld, uid: int) -> None:
    before, name, after = attempt(
        names, uid, network("four.test:80"), ("web", API), ("look", "four.test"), ("web", API)
    )

    assert before in BLOCKED
    assert name == [API]
    assert after == f"reached {API} 80 {API}"


@pytest.mark.parametrize(
    ("entry", "resolved", "refused"),
    [
        ("*.wild.test:80", ["x.wild.test", "a.b.wild.test"], ["wild.test", "xwild.test"]),
        ("ALIAS.test.:80", ["alias.test", "AliAs.TeSt."], ["second.test", "third.test"]),
        ("six.test:80", [], ["sixx.test"]),
        ("bücher.test:80", ["xn--bcher-kva.test"], ["bcher.test"]),
    ],
)
def test_names_mean_what_they_say(
    names: NamesWorld, uid: int, entry: str, resolved: list[str], refused: list[str]
) -> None:
    names.name("xn--bcher-kva.test", A=[API])

    outcomes = attempt(
        names,
        uid,
        network(entry),
        *(("web", name) for name in resolved),
        *(("look", name) for name in refused),
    )

    for name, outcome in zip(resolved, outcomes, strict=False):
        assert outcome == f"reached {API} 80 {name}"
    assert all(str(outcome).startswith("EAI_") for outcome in outcomes[len(resolved) :])


def test_a_name_with_ipv6_addresses_alone_is_reached(names: NamesWorld, uid: int) -> None:
    assert attempt(names, uid, network("six.test:80"), ("web", "six.test")) == [f"reached {API6} 80 six.test"]


@pytest.mark.slow
def test_what_the_name_servers_do_is_what_the_script_sees(names: NamesWorld, uid: int) -> None:
    listed = (
        "none.test",
        "empty.test",
        "failing.test",
        "refused.test",
        "nonsense.test",
        "slow.test",
        "circle.test",
    )
    with names.resolving(STUB + QUICK):
        [outcomes] = attempt(names, uid, network(*(f"{name}:80" for name in listed)), ("looks", *listed))

    assert outcomes[0] == "EAI_NONAME"
    assert outcomes[1] in ("EAI_NODATA", "EAI_NONAME")
    assert all(str(outcome).startswith("EAI_") for outcome in outcomes[2:5])
    assert str(outcomes[5]).startswith("EAI_")


def test_a_slow_name_server_is_waited_for(names: NamesWorld, uid: int) -> None:
    assert attempt(names, uid, network("slow.test:80"), ("web", "slow.test")) == [
        f"reached {API} 80 slow.test"
    ]


def test_a_name_server_that_is_down_is_told_and_another_is_asked(names: NamesWorld, uid: int) -> None:
    policy, steps = (
        network("four.test:80"),
        (("look", "four.test"), ("ask", *OWN, "udp", query("four.test", "MX"))),
    )
    down = f"nameserver {API}\n"
    with names.resolving(down + QUICK):
        looked, asked = attempt(names, uid, policy, *steps)
    with names.resolving(down + DIRECT + QUICK):
        looked_after, asked_after = attempt(names, uid, policy, *steps)

    assert (looked, answer(asked)) == ("EAI_AGAIN", ("SERVFAIL", []))
    assert (looked_after, answer(asked_after)) == ([API], ("NOERROR", []))


@pytest.mark.slow
def test_a_silent_name_server_delays_no_other_name(names: NamesWorld, uid: int) -> None:
    with names.resolving(STUB + QUICK):
        silent, other = attempt(
            names,
            uid,
            network("silent.test:80", "four.test:80"),
            ("look", "silent.test"),
            ("web", "four.test"),
        )

    assert silent == "EAI_AGAIN"
    assert other == f"reached {API} 80 four.test"


@pytest.mark.parametrize(
    ("resolv_conf", "hosts", "entry", "name", "expected"),
    [
        pytest.param(STUB, "", "four.test:80", "four.test", [API], id="stub"),
        pytest.param(DIRECT, "", "four.test:80", "four.test", [API], id="elsewhere"),
        pytest.param("nameserver 2001:db8:9::53\n", "", "four.test:80", "four.test", [API], id="by IPv6"),
        pytest.param(STUB, f"{OTHER} four.test\n", "four.test:80", "four.test", [OTHER], id="hosts file"),
        pytest.param(STUB, f"{OTHER} filed\n", "filed:80", "filed", [OTHER], id="one label, hosts file"),
        pytest.param(f"search corp.test\n{STUB}", "", "service:80", "service", [API], id="search domain"),
    ],
)
def test_names_are_resolved_as_the_host_resolves_them(
    names: NamesWorld, uid: int, resolv_conf: str, hosts: str, entry: str, name: str, expected: list[str]
) -> None:
    with names.resolving(resolv_conf, hosts):
        looked, reached = attempt(names, uid, network(entry), ("look", name), ("web", name))

    assert looked == expected
    assert reached == f"reached {expected[0]} 80 {name}"


def test_an_answer_that_is_too_large_is_had_by_tcp(names: NamesWorld, uid: int) -> None:
    looked, plain, stream = attempt(
        names,
        uid,
        network("large.test:80"),
        ("look", "large.test"),
        ("ask", *OWN, "udp", query("large.test", "A", edns=False)),
        ("ask", *OWN, "tcp", query("large.test", "TXT", edns=False)),
    )

    assert len(looked) == 60
    assert len(bytes.fromhex(plain)) <= 512
    assert bytes.fromhex(plain)[2] & 2
    assert len(answer(stream)[1]) == 1
    assert "tcp large.test TXT" in names.queries("large.test")


OTHER_RECORDS = [
    ("api.test", "MX", ["10 mail.test."]),
    ("api.test", "TXT", ['"some text"']),
    ("_postgresql._tcp.api.test", "SRV", ["1 2 5432 other.test."]),
    ("alias.test", "CNAME", ["second.test."]),
]


def test_other_records_are_told_and_what_they_name_is_not_opened(names: NamesWorld, uid: int) -> None:
    *asked, mail, other, reached = attempt(
        names,
        uid,
        network("api.test:80", "alias.test:80"),
        *(("ask", *OWN, how, query(name, kind)) for name, kind, _ in OTHER_RECORDS for how in ("udp", "tcp")),
        ("look", "mail.test"),
        ("look", "other.test"),
        ("web", OTHER),
    )

    told = [("NOERROR", records) for _, _, records in OTHER_RECORDS]
    assert list(map(answer, asked[::2])) == list(map(answer, asked[1::2])) == told
    assert mail.startswith("EAI_")
    assert other.startswith("EAI_")
    assert reached in BLOCKED


def test_what_may_not_be_asked_is_refused_at_once(names: NamesWorld, uid: int) -> None:
    refused = [
        ("unlisted.test", "A"),
        ("api.test", "ANY"),
        ("api.test", "PTR"),
        ("1.0.9.10.in-addr.arpa", "PTR"),
    ]
    outcomes = attempt(
        names, uid, network("api.test:80"), *(("ask", *OWN, "udp", query(*each)) for each in refused)
    )

    assert [answer(outcome) for outcome in outcomes] == [("REFUSED", [])] * len(refused)


def test_https_records_do_not_lead_clients_elsewhere(names: NamesWorld, uid: int) -> None:
    [outcome] = attempt(names, uid, network("api.test:80"), ("ask", *OWN, "udp", query("api.test", "HTTPS")))

    assert answer(outcome) == ("NOERROR", [])
    assert not any(line.endswith("HTTPS") for line in names.queries("api.test"))


def test_a_changed_answer_opens_the_new_address_and_keeps_the_old(names: NamesWorld, uid: int) -> None:
    changing = names.name(f"changing{uid}.test", A=[API], ttl=1, then={"A": [OTHER], "ttl": 1})

    first, second, old, new = attempt(
        names,
        uid,
        network(f"{changing}:80"),
        ("look", changing),
        ("look", changing),
        ("web", API),
        ("web", OTHER),
    )

    assert (first, second) == ([API], [OTHER])
    assert (old, new) == (f"reached {API} 80 {API}", f"reached {OTHER} 80 {OTHER}")


REBINDING = [
    ("metadata.test", "169.254.169.254"),
    ("metadata6.test", "fd00:ec2::254"),
    ("aliased-metadata.test", "169.254.169.254"),
    ("loopback.test", "127.0.0.1"),
    ("loopback6.test", "::1"),
    ("loopback9.test", "127.9.9.9"),
    ("mapped.test", "::ffff:127.0.0.1"),
    ("mapped-metadata.test", "::ffff:169.254.169.254"),
    ("nat64.test", "64:ff9b::a9fe:a9fe"),
    ("unspecified.test", "0.0.0.0"),
    ("unspecified6.test", "::"),
    ("link-local.test", "169.254.7.7"),
    ("link-local6.test", "fe80::8"),
    ("broadcast.test", "255.255.255.255"),
    ("multicast.test", "224.0.0.1"),
    ("multicast.test", "ff02::1"),
]


def test_a_name_that_means_the_machine_itself_or_its_metadata_opens_nothing(
    names: NamesWorld, uid: int
) -> None:
    listed = [f"{name}:80" for name, _ in REBINDING]

    outcomes = attempt(
        names,
        uid,
        network(*listed),
        *(step for name, address in REBINDING for step in (("look", name), ("web", name), ("web", address))),
    )

    for n, (name, address) in enumerate(REBINDING):
        looked, by_name, by_address = outcomes[3 * n : 3 * n + 3]
        assert str(looked).startswith("EAI_"), (name, looked)
        assert str(by_name).startswith("EAI_"), (name, by_name)
        # The last of these are no addresses that anything can connect to.
        assert by_address in BLOCKED | {"EINVAL"}, (address, by_address)


def test_of_several_addresses_those_that_are_blocked_are_left_out(names: NamesWorld, uid: int) -> None:
    looked, reached, metadata, loopback = attempt(
        names,
        uid,
        network("mixed.test:80"),
        ("look", "mixed.test"),
        ("web", "mixed.test"),
        ("web", "169.254.169.254"),
        ("web", "127.0.0.1"),
    )

    assert looked == [API]
    assert reached == f"reached {API} 80 mixed.test"
    assert {metadata, loopback} <= BLOCKED


def test_a_name_that_changes_its_mind_during_the_run_opens_nothing_more(names: NamesWorld, uid: int) -> None:
    later = ["169.254.169.254", "127.0.0.1", "0.0.0.0"]
    rebound = [
        names.name(f"rebound-{n}-{uid}.test", A=[API], ttl=0, then={"A": [address], "ttl": 0})
        for n, address in enumerate(later)
    ]

    outcomes = attempt(
        names,
        uid,
        network(*(f"{name}:80" for name in rebound)),
        *(("web", name) for name in rebound),
        *(("web", name) for name in rebound),
        *(("web", address) for address in later),
        ("web", API),
    )

    assert outcomes[:3] == [f"reached {API} 80 {name}" for name in rebound]
    assert all(outcome.startswith("EAI_") for outcome in outcomes[3:6])
    assert set(outcomes[6:9]) <= BLOCKED
    # What it meant before stays open.
    assert outcomes[9] == f"reached {API} 80 {API}"


def test_another_resolver_is_out_of_reach_by_udp_and_tcp(names: NamesWorld, uid: int) -> None:
    servers = ("10.9.0.53", OTHER, "127.0.0.53", "2001:db8:9::53")
    asked = names.queries("four.test")

    outcomes = attempt(
        names,
        uid,
        network("api.test:80,443"),
        *(("ask", server, 53, how, query("four.test", "A")) for server in servers for how in ("udp", "tcp")),
    )

    assert set(outcomes) <= BLOCKED
    assert names.queries("four.test") == asked


def test_what_another_resolver_answers_opens_nothing(names: NamesWorld, uid: int) -> None:
    by_udp, by_tcp, reached = attempt(
        names,
        uid,
        network(f"{OTHER}:53"),
        ("ask", OTHER, 53, "udp", query("four.test", "A")),
        ("ask", OTHER, 53, "tcp", query("four.test", "A")),
        ("web", API),
    )

    assert answer(by_udp) == answer(by_tcp) == ("NOERROR", [API])
    assert reached in BLOCKED


DOH = """
import ssl, urllib.request
def main(context):
    server, query, address = context
    trusting = ssl.create_default_context()
    trusting.check_hostname, trusting.verify_mode = False, ssl.CERT_NONE
    opener = urllib.request.build_opener(
        urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=trusting)
    )
    outcomes = []
    request = urllib.request.Request(
        f"https://{server}/dns-query", bytes.fromhex(query), {"Content-Type": "application/dns-message"}
    )
    for wanted in (request, f"http://{address}/"):
        try:
            outcomes.append(opener.open(wanted, timeout=20).read().hex())
        except OSError as error:
            outcomes.append(type(getattr(error, "reason", error)).__name__)
    return outcomes
"""


def test_dns_over_https_is_a_connection_like_any_other(names: NamesWorld, uid: int) -> None:
    context = [SHARED, query("four.test", "A"), API]

    listed = names.run("python", DOH, policy=network(f"{SHARED}:443"), uid=uid, context=context)
    unlisted = names.run("python", DOH, policy=network("api.test:443"), uid=uid, context=context)

    assert answer(listed.value[0]) == ("NOERROR", [API])
    refusals = ("ConnectionRefusedError", "PermissionError", "OSError")
    assert listed.value[1] in refusals
    assert all(outcome in refusals for outcome in unlisted.value)


def test_five_hundred_names_are_all_reached(names: NamesWorld, uid: int) -> None:
    many = [f"n{n}.many.test" for n in range(500)]

    outcomes = attempt(
        names, uid, network(*(f"{name}:80" for name in many)), *(("web", name) for name in many)
    )

    assert outcomes == [f"reached {API} 80 {name}" for name in many]


def test_a_sandbox_that_waited_resolves_like_any_other(names: NamesWorld, uid: int) -> None:
    policy = network("four.test:80")

    runs = [run(names, uid, policy, ("web", "four.test"), ("look", "unlisted.test")) for _ in range(4)]

    assert runs[-1].timing is not None
    assert runs[-1].timing.warm
    for each in runs:
        assert isinstance(each.value, list)
        assert each.value[0] == f"reached {API} 80 four.test"
        assert str(each.value[1]).startswith("EAI_")


def test_one_runs_names_open_nothing_for_the_next(names: NamesWorld, uid: int) -> None:
    policy = network("four.test:80")

    [opened] = attempt(names, uid, policy, ("web", "four.test"))
    [afterwards] = attempt(names, uid, policy, ("web", API))

    assert opened == f"reached {API} 80 four.test"
    assert afterwards in BLOCKED


def test_names_are_resolved_only_where_the_policy_lists_names(names: NamesWorld, uid: int) -> None:
    [by_address] = attempt(names, uid, network(f"{API}:80"), ("look", "four.test"))

    assert by_address.startswith("EAI_")
