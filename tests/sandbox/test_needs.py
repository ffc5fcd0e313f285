"""What something says that it needs only ever takes away from the policy, whatever it says."""

from __future__ import annotations

from ipaddress import ip_address, ip_network
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ringfence.sandbox.policy import (
    DEFAULT_POLICY,
    Needs,
    NeedsError,
    Resources,
    SandboxPolicy,
    beyond,
    governing,
    loosened,
    narrow,
    overlay,
    without_needs,
)

# An oracle that knows nothing of how the code decides: what may be done is sampled, and each policy asked for it.

PORTS = (1, 80, 443, 444, 8443, 65535)
ADDRESSES = ("10.0.0.5", "10.0.0.6", "10.1.0.1", "192.0.2.7", "2001:db8::1", "2001:db9::1")
NAMES = ("example.com", "api.example.com", "v2.api.example.com", "example.org", "badexample.com", "com")
SOCKETS = ("/run/app.sock", "/run/db.sock")
PATHS = ("/srv", "/srv/www", "/srv/www/index.html", "/srvx", "/var/log", "/tmp/x", "/etc/motd")
VIEWS = ("processes", "disks", "network")
LIMITS = [field.alias or "" for field in Resources.model_fields.values()]

Act = tuple[str, Any, int]
ACTS: tuple[Act, ...] = (
    *(("address", address, port) for address in ADDRESSES for port in (0, *PORTS)),
    *(("name", name, port) for name in NAMES for port in (0, *PORTS)),
    *(("local", "", port) for port in PORTS),
    *(("socket", path, 0) for path in SOCKETS),
    *(("path", path, 0) for path in PATHS),
    *(("view", view, 0) for view in VIEWS),
    *((name, "", step) for name in LIMITS for step in (2**24, 2**25, 2**30)),
)
"""What a script may want to do; port 0 stands for a protocol without ports."""


def permits(policy: SandboxPolicy, act: Act) -> bool:
    """Whether a policy lets a script do it, read off its JSON."""
    kind, what, number = act
    wire = policy.spelled_out()
    if not wire["enabled"]:
        return True
    network, filesystem = wire["network"], wire["filesystem"]
    if kind in ("address", "name", "local", "socket"):
        if network["mode"] == "deny":
            return False
        if network["mode"] == "unrestricted" and kind in ("address", "name"):
            return True
        return any(_allows(entry, kind, what, number) for entry in network["allow"])
    if kind == "path":
        shown = ["/"] if filesystem["mode"] == "off" else filesystem["hostPaths"]
        return any(
            what == each
            or (each == "/" and not what.startswith("/tmp/"))
            or (each != "/" and what.startswith(each + "/"))
            for each in shown
        )
    if kind == "view":
        return what in filesystem["hostView"]
    return bool(number <= wire["resources"][kind])


def _allows(entry: str, kind: str, what: str, port: int) -> bool:
    if entry.startswith("unix:"):
        return kind == "socket" and what == entry[5:]
    host, ports = entry, None
    if entry.startswith("["):
        host, _, ports = entry[1:].partition("]")
        ports = ports[1:] or None
    elif entry.count(":") == 1:
        host, _, ports = entry.partition(":")
    ranges = None if ports is None else [list(map(int, each.split("-"))) for each in ports.split(",")]
    if ranges is not None and not any(each[0] <= port <= each[-1] for each in ranges):
        return False
    if host == "localhost":
        return kind == "local"
    if kind == "name":
        return what.endswith(host[1:]) if host.startswith("*.") else what == host
    if kind == "address" and (host[0].isdigit() or ":" in host):
        return ip_address(what) in ip_network(host)
    return False


port_texts = st.sampled_from(["", ":443", ":80,443", ":400-500", ":1-65535", ":443-8443", ":65535,1"])
hosts = st.sampled_from(
    [
        *("10.0.0.5", "10.0.0.0/24", "10.0.0.0/8", "0.0.0.0/0", "192.0.2.0/24", "10.1.0.1"),
        *("example.com", "api.example.com", "*.example.com", "*.api.example.com", "example.org", "*.com"),
    ]
)
ipv6 = st.tuples(st.sampled_from(["2001:db8::1", "2001:db8::/32", "::/0"]), port_texts).map(
    lambda pair: f"[{pair[0]}]{pair[1]}" if pair[1] else pair[0]
)
entries = st.one_of(
    st.tuples(hosts, port_texts).map("".join),
    ipv6,
    st.sampled_from(["localhost:443", "localhost:80,443", "localhost:1-500"]),
    st.sampled_from([f"unix:{path}" for path in SOCKETS]),
)
limits = st.fixed_dictionaries({}, optional={name: st.sampled_from([2**24, 2**25, 2**26]) for name in LIMITS})
paths = st.lists(st.sampled_from([*PATHS, "/"]), max_size=3)
views = st.lists(st.sampled_from(VIEWS), max_size=3)
policies = st.fixed_dictionaries(
    {
        "enabled": st.sampled_from([True, True, True, False]),
        "onUnavailable": st.sampled_from(["fail", "degrade"]),
        "needsRequired": st.booleans(),
        "resources": limits,
        "filesystem": st.fixed_dictionaries(
            {
                "mode": st.sampled_from(["scratch-only", "scratch-plus-ro", "off"]),
                "hostPaths": paths,
                "hostView": views,
            }
        ),
        "network": st.fixed_dictionaries(
            {
                "mode": st.sampled_from(["deny", "allowlist", "allowlist", "unrestricted"]),
                "allow": st.lists(entries, max_size=5),
                "denyLinkLocalAndMetadata": st.booleans(),
                "checkServerName": st.booleans(),
            }
        ),
        "privilege": st.fixed_dictionaries(
            {"mode": st.sampled_from(["inherit", "drop-to-uid"])},
            optional={"uid": st.sampled_from([1000, 1001]), "gid": st.sampled_from([1000, 1001])},
        ),
    }
).map(lambda partial: overlay(DEFAULT_POLICY, partial))
needs = st.builds(
    lambda named, limited: Needs.parse({**named, **limited}),
    st.fixed_dictionaries(
        {}, optional={"network": st.lists(entries, max_size=5), "hostPaths": paths, "hostView": views}
    ),
    limits,
)
STRICT_ORDERS: dict[str, list[Any]] = {
    "onUnavailable": ["fail", "degrade"],
    "filesystem.mode": ["scratch-only", "scratch-plus-ro", "off"],
    "network.mode": ["deny", "allowlist", "unrestricted"],
    "network.denyLinkLocalAndMetadata": [True, False],
    "network.checkServerName": [True, False],
    "privilege.mode": ["drop-to-uid", "inherit"],
    "needsRequired": [True, False],
}


def at(policy: SandboxPolicy, path: str) -> Any:
    value: Any = policy.spelled_out()
    for step in path.split("."):
        value = value[step]
    return value


@given(policies, needs)
def test_what_is_narrowed_lets_nothing_be_done_that_the_ceiling_does_not(
    ceiling: SandboxPolicy, wanted: Needs
) -> None:
    narrowed = narrow(ceiling, wanted)

    assert [act for act in ACTS if permits(narrowed, act) and not permits(ceiling, act)] == []
    for path, order in STRICT_ORDERS.items():
        assert order.index(at(narrowed, path)) <= order.index(at(ceiling, path)), path
    assert narrowed.enabled == ceiling.enabled
    assert narrowed.privilege == ceiling.privilege
    assert SandboxPolicy.parse(narrowed.to_wire()) == narrowed


@given(policies, needs)
def test_what_is_narrowed_is_told_as_no_looser(ceiling: SandboxPolicy, wanted: Needs) -> None:
    assert loosened(ceiling, narrow(ceiling, wanted)) == ()


@given(policies, policies)
def test_what_one_policy_lets_be_done_and_the_other_does_not_is_told_as_looser(
    old: SandboxPolicy, new: SandboxPolicy
) -> None:
    more = [act for act in ACTS if permits(new, act) and not permits(old, act)]
    stricter = [
        path
        for path, order in STRICT_ORDERS.items()
        if old.enabled and new.enabled and order.index(at(new, path)) > order.index(at(old, path))
    ]
    # These two say nothing where no packet leaves.
    if new.network.denies_everything:
        stricter = [
            path for path in stricter if not path.endswith(("denyLinkLocalAndMetadata", "checkServerName"))
        ]
    told = loosened(old, new)

    assert told or not more, more
    assert all(any(line.startswith(path) for line in told) or path == "network.mode" for path in stricter)


@given(policies)
def test_a_policy_is_no_looser_than_itself(policy: SandboxPolicy) -> None:
    assert loosened(policy, policy) == ()


@given(policies, needs)
def test_what_is_not_beyond_the_ceiling_is_had_and_nothing_else(
    ceiling: SandboxPolicy, wanted: Needs
) -> None:
    missing = beyond(ceiling, wanted)
    narrowed = narrow(ceiling, wanted)
    if not ceiling.enabled:
        assert missing == ()
        return
    unlimited = overlay(
        DEFAULT_POLICY,
        {
            "resources": dict.fromkeys(LIMITS, 2**26),
            "filesystem": {
                "hostPaths": wanted.host_paths,
                "hostView": [str(each) for each in wanted.host_view],
            },
            "network": {"allow": list(wanted.network)},
        },
    )
    host = ("address", "name", "local", "socket", "path", "view")
    asked = {act for act in ACTS if act[0] in host and permits(unlimited, act)}
    had = {act for act in ACTS if act[0] in host and permits(narrowed, act)}
    assert had <= asked
    if not missing:
        assert had == asked
    for line in missing:
        assert str(line).startswith(("network.", "filesystem.", "resources."))


@given(policies, needs)
def test_with_the_lines_that_are_missing_nothing_is_missing_any_more(
    ceiling: SandboxPolicy, wanted: Needs
) -> None:
    partial: dict[str, dict[str, Any]] = {"resources": {}, "network": {}, "filesystem": {}}
    lists: dict[str, list[Any]] = {
        "allow": list(ceiling.network.allow),
        "hostPaths": list(ceiling.filesystem.host_paths),
        "hostView": [str(each) for each in ceiling.filesystem.host_view],
    }
    for path, value in beyond(ceiling, wanted):
        layer, name = path.split(".")
        if name in lists:
            lists[name].append(value)
            value = lists[name]
        partial[layer][name] = value
    widened = overlay(ceiling, partial)
    # A path in a run's own /tmp cannot be shown under a policy that keeps the host's files.
    left = [
        line
        for line in beyond(widened, wanted)
        if ceiling.filesystem.mode != "off" or "/tmp" not in str(line)
    ]

    assert left == []


# In words


def policy(**partial: Any) -> SandboxPolicy:
    return overlay(DEFAULT_POLICY, partial)


def test_every_line_that_is_missing_is_named_as_it_would_stand_in_the_policy() -> None:
    ceiling = policy(network={"allow": ["api.example.com:80"]}, filesystem={"hostPaths": ["/var/log"]})
    wanted = Needs.parse(
        {
            "network": ["api.example.com:443", "api.example.com:80", "bücher.example"],
            "hostPaths": ["/var/log/nginx", "/var"],
            "hostView": ["disks"],
            "memoryBytes": 2**30,
            "cpuSeconds": 5,
        }
    )

    assert [str(line) for line in beyond(ceiling, wanted)] == [
        'network.allow: "api.example.com:443"',
        'network.allow: "bücher.example"',
        'filesystem.hostPaths: "/var"',
        'filesystem.hostView: "disks"',
        "resources.memoryBytes: 1073741824",
    ]
    assert str(beyond(policy(network={"mode": "deny"}), Needs(network=("a.example",)))[0]) == (
        'network.mode: "allowlist"'
    )


def test_an_address_in_the_ceiling_is_no_name_and_a_name_no_address() -> None:
    everywhere = policy(network={"allow": ["0.0.0.0/0", "::/0", "example.com"]})

    assert beyond(everywhere, Needs(network=("10.0.0.5:443",))) == ()
    assert beyond(everywhere, Needs(network=("api.example.com:443",))) != ()


def test_ports_of_several_entries_of_the_ceiling_count_together() -> None:
    ceiling = policy(
        network={"allow": ["10.0.0.0/8:1-100", "10.0.0.5:101-200", "*.example.com:80", "a.example.com:81"]}
    )

    assert beyond(ceiling, Needs(network=("10.0.0.5:50-150", "a.example.com:80,81"))) == ()
    assert len(beyond(ceiling, Needs(network=("10.0.0.6:50-150", "b.example.com:80,81")))) == 2


def test_without_needs_there_is_all_of_the_policy_unless_it_requires_them() -> None:
    lax = policy(network={"mode": "unrestricted"}, filesystem={"mode": "off", "hostView": ["disks"]})
    strict = overlay(lax, {"needsRequired": True})

    assert governing(lax, None) == lax
    plain = governing(strict, None)
    assert plain == without_needs(strict) == governing(strict, Needs())
    assert plain.network.denies_everything
    assert not plain.filesystem.shows_host
    assert plain.filesystem.mode == "scratch-plus-ro"
    assert plain.resources == strict.resources


def test_a_policy_that_turns_the_sandbox_off_is_no_ceiling() -> None:
    off = policy(enabled=False)

    assert beyond(off, Needs(network=("10.0.0.5",))) == ()
    assert not narrow(off, Needs()).enabled


@pytest.mark.parametrize(
    ("wire", "problem"),
    [
        ({"netwrk": []}, "netwrk: unknown key"),
        ({"network": ["exa mple"]}, "network.0: 'exa mple': it holds white space"),
        ({"network": "10.0.0.5"}, "network: "),
        ({"hostPaths": ["srv"]}, "hostPaths.0: 'srv' is not an absolute path"),
        ({"hostView": ["all"]}, "hostView.0: "),
        ({"memoryBytes": 1}, "memoryBytes: "),
        ({"cpuSeconds": True}, "cpuSeconds: "),
        ({"mode": "unrestricted"}, "mode: unknown key"),
        ({"network": ["10.0.0.5"] * 300}, "network: "),
        (["10.0.0.5"], "needs: must be a JSON object"),
        (None, "needs: must be a JSON object"),
    ],
)
def test_what_are_no_needs_is_refused_with_each_problem(wire: Any, problem: str) -> None:
    with pytest.raises(NeedsError) as caught:
        Needs.parse(wire)

    assert caught.value.problems[0].startswith(problem)


@given(needs)
def test_the_wire_form_names_what_was_named_and_reads_back(wanted: Needs) -> None:
    wire = wanted.to_wire()

    assert Needs.parse(wire) == wanted
    assert None not in wire.values()
    assert Needs().to_wire() == {}


@pytest.mark.parametrize(
    ("before", "after", "told"),
    [
        ({}, {"enabled": False}, "enabled: scripts run without any sandbox"),
        ({}, {"network": {"mode": "unrestricted"}}, "network.mode: unrestricted (was allowlist)"),
        ({}, {"network": {"allow": ["10.0.0.5"]}}, "network.allow: scripts may connect to 10.0.0.5"),
        ({}, {"filesystem": {"hostPaths": ["/srv"]}}, "filesystem.hostPaths: scripts may read /srv"),
        ({}, {"resources": {"cpuSeconds": 61}}, "resources.cpuSeconds: 61 (was 60)"),
        ({}, {"privilege": {"mode": "inherit"}}, "privilege.mode: scripts keep the rights of the supervisor"),
        ({}, {"privilege": {"uid": 1000}}, "privilege.uid: 1000 (was one of each run's own)"),
        ({"needsRequired": True}, {"needsRequired": False}, "needsRequired: what does not say"),
    ],
)
def test_what_becomes_looser_is_told_in_words(
    before: dict[str, Any], after: dict[str, Any], told: str
) -> None:
    old = policy(**before)
    [line] = loosened(old, overlay(old, after))

    assert line.startswith(told)
    assert loosened(overlay(old, after), old) == ()
