"""Egress: what is decided, the gate before the link, and the link's life."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import json
import os
import signal
import stat
from collections.abc import Callable
from dataclasses import replace
from ipaddress import IPv4Address, IPv4Network, IPv6Address, ip_address
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ringfence.sandbox import DEFAULT_POLICY, PolicySnapshot, overlay
from ringfence.sandbox.capabilities.found import PacketFilter, SlirpProgram
from ringfence.sandbox.capabilities.model import Capabilities
from ringfence.sandbox.capabilities.probe import probe, probe_now
from ringfence.sandbox.egress import (
    EgressPlan,
    HostNetwork,
    LinkFailed,
    Macvlan,
    MacvlanSettings,
    Slirp,
    attach,
    egress_plan,
)
from ringfence.sandbox.egress import probe as egress_probe
from ringfence.sandbox.egress.link import program
from ringfence.sandbox.egress.link.interface import _Places
from ringfence.sandbox.egress.link.macvlan import MacvlanSettingsError
from ringfence.sandbox.egress.link.ruleset import Everything, Listed, Reach, overlaps
from ringfence.sandbox.egress.plan import DNS, SLIRP_NETWORKS, resolvers_of
from ringfence.sandbox.faults import Unavailable
from ringfence.sandbox.identities.identity import Identity
from ringfence.sandbox.policy.addresses import AllowEntry
from ringfence.scripts import RunResult, ScriptKind, ScriptRequest, run_under
from ringfence.scripts.running.runner import runner

from tests import world as worlds
from tests.primitives import requires
from tests.sandbox.processes import descendants, descriptors, everyone, marked_processes
from tests.sandbox.test_addresses import entries
from tests.waiting import until

HOST = HostNetwork(resolvers=(IPv4Address("10.0.0.53"), IPv6Address("2001:db8::53")), has_ipv6=True)
LAN = MacvlanSettings.parse(worlds.LAN)


def decide(reach: Reach, host: HostNetwork = HOST, plumbing: Slirp | Macvlan | None = None) -> EgressPlan:
    return egress_plan(
        reach, deny_link_local_and_metadata=True, plumbing=plumbing or Slirp("/bin/slirp"), host=host
    )


def listed(*texts: str) -> Listed:
    return Listed(tuple(AllowEntry.parse(text) for text in texts))


# What is decided


def test_an_allowlist_has_names_resolved_only_by_a_resolver_that_it_lists() -> None:
    assert decide(listed("10.0.0.5")).nameservers == ()
    assert decide(listed("10.0.0.5", "10.0.0.53:53")).nameservers == ("10.0.0.53",)
    assert decide(listed("10.0.0.53:80")).nameservers == ()
    assert decide(listed("2001:db8::/32")).nameservers == ("2001:db8::53",)


def test_without_an_allowlist_the_plumbings_resolver_serves_whatever_the_hosts_one_is() -> None:
    for resolver in ("127.0.0.53", "169.254.169.253", "10.0.0.53"):
        plan = decide(Everything(), HostNetwork(resolvers=(ip_address(resolver),)))
        assert plan.nameservers == ("198.19.254.3",)
        assert isinstance(plan.plumbing, Slirp)
        assert plan.plumbing.dns


def test_a_macvlan_link_has_only_resolvers_that_the_filter_lets_it_reach() -> None:
    resolvers = tuple(ip_address(text) for text in ("127.0.0.53", "169.254.169.253", "10.0.0.53"))

    assert decide(Everything(), HostNetwork(resolvers), Macvlan(LAN)).nameservers == ("10.0.0.53",)


@given(st.lists(entries, max_size=8).map(lambda found: Listed(tuple(found))), st.booleans())
def test_every_name_server_that_is_named_can_be_asked_and_was_asked_for(reach: Listed, ipv6: bool) -> None:
    plan = decide(reach, HostNetwork(HOST.resolvers, has_ipv6=ipv6))

    for text in plan.nameservers:
        assert plan.ruleset.permits(ip_address(text), DNS)
        assert any(entry.covers(ip_address(text), DNS) for entry in reach.entries)
    assert isinstance(plan.plumbing, Slirp)
    assert not plan.plumbing.dns


@given(st.lists(entries, max_size=8))
def test_the_links_own_network_makes_way_for_what_is_listed(found: list[AllowEntry]) -> None:
    plumbing = decide(Listed(tuple(found))).plumbing
    assert isinstance(plumbing, Slirp)

    narrow = [entry.network for entry in found if entry.network.prefixlen >= 24]
    if any(not any(overlaps(network, entry) for entry in narrow) for network in SLIRP_NETWORKS):
        assert not any(overlaps(plumbing.network, entry) for entry in narrow)


def test_a_listed_host_in_the_preferred_network_is_not_shut_out() -> None:
    plan = decide(listed("198.19.254.7:80"))

    assert plan.ruleset.permits(IPv4Address("198.19.254.7"), 80)
    assert isinstance(plan.plumbing, Slirp)
    assert plan.plumbing.network == IPv4Network("10.0.2.0/24")


def test_ipv6_is_given_to_who_asks_for_it() -> None:
    def has_ipv6(reach: Reach, host: HostNetwork = HOST) -> bool:
        return decide(reach, host).plumbing.ipv6

    assert has_ipv6(listed("2001:db8::1"))
    assert not has_ipv6(listed("10.0.0.5"))
    assert has_ipv6(Everything())
    assert not has_ipv6(Everything(), HostNetwork(HOST.resolvers, has_ipv6=False))


def test_a_host_that_knows_no_ipv6_still_gives_the_rest_and_says_what_it_cannot() -> None:
    plan = decide(listed("10.0.0.5", "2001:db8::1"), HostNetwork(speaks_ipv6=False))

    assert not plan.plumbing.ipv6
    assert [str(entry) for entry in plan.without_ipv6] == ["2001:db8::1"]
    assert plan.ruleset.permits(IPv4Address("10.0.0.5"), 80)
    assert decide(listed("2001:db8::1")).without_ipv6 == ()


def test_resolvers_are_read_as_the_c_library_reads_them() -> None:
    text = "# nameserver 1.1.1.1\nnameserver 10.0.0.53\n nameserver\t2001:db8::53 \nsearch x\nnameserver fe80::1%eth0\n"

    assert resolvers_of(text) == (IPv4Address("10.0.0.53"), IPv6Address("2001:db8::53"))


def test_equal_decisions_are_equal_so_that_sandboxes_can_wait_for_them() -> None:
    assert decide(listed("10.0.0.5")) == decide(listed("10.0.0.5"))
    assert hash(decide(listed("10.0.0.5"))) == hash(decide(listed("10.0.0.5")))
    assert decide(listed("10.0.0.5")) != decide(listed("10.0.0.6"))


# Addressing for macvlan


def test_macvlan_addressing_is_read() -> None:
    assert LAN.parent == "lan0"
    assert LAN.places == 2
    assert str(LAN.ipv4.interface(1)) == "10.7.0.101/24"
    assert LAN.ipv6 is not None
    assert str(LAN.ipv6.interface(0)) == "2001:db8:7::100/64"


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "does not have the accepted form"),
        ("eth0 10.0.0.9/24 10.0.0.1", "does not have the accepted form"),
        ("eth0;reboot 10.0.0.9/24 via 10.0.0.1", "not the name of an interface"),
        ("eth0 10.0.0.9 via 10.0.0.1", "no prefix length"),
        ("eth0 10.0.0.9/33 via 10.0.0.1", "33"),
        ("eth0 10.0.0.9/24 via 10.0.1.1", "must be within 10.0.0.0/24"),
        ("eth0 10.0.0.9-10.0.0.8/24 via 10.0.0.1", "the lowest first"),
        ("eth0 10.0.0.1-10.0.0.9/24 via 10.0.0.5", "the gateway must not be within the range"),
        ("eth0 2001:db8::9/64 via 2001:db8::1", "the first range must be IPv4"),
        ("eth0 10.0.0.9/24 via 10.0.0.1 10.0.0.19/24 via 10.0.0.1", "the second range must be IPv6"),
    ],
)
def test_macvlan_addressing_that_cannot_be_used_is_refused_with_the_reason(text: str, problem: str) -> None:
    with pytest.raises(MacvlanSettingsError) as caught:
        MacvlanSettings.parse(text)

    assert problem in str(caught.value)
    assert "eth0 192.0.2.100-192.0.2.131/24 via 192.0.2.1" in str(caught.value)


def test_no_two_runs_have_the_same_address_and_one_too_many_is_told_so() -> None:
    places = _Places()
    first, second = places.take(LAN), places.take(LAN)

    assert first != second
    with pytest.raises(LinkFailed, match="all 2 addresses that are configured for macvlan are in use"):
        places.take(LAN)
    places.give_back(LAN, first)
    assert places.take(LAN) == first


# The gate and the link, for real

real = requires("root", "user namespaces", "slirp4netns", "nft", "ip")
LISTED = {"network": {"allow": ["203.0.113.1:80"]}}


@functools.cache
def with_stack() -> Capabilities:
    """This host, as if it had no relay."""

    def relay(_: object) -> bool:
        raise Unavailable("no packet socket can be opened")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(egress_probe, "relay", relay)
        return probe_now()


async def run(
    script: str,
    capabilities: Capabilities | None = None,
    policy: dict[str, Any] | None = None,
    **request: Any,
) -> RunResult:
    snapshot = PolicySnapshot(overlay(DEFAULT_POLICY, policy or LISTED))
    return await run_under(
        snapshot,
        ScriptRequest(ScriptKind.SHELL, script, **request),
        capabilities=capabilities or with_stack(),
    )


def with_nft(directory: Path, script: str) -> Capabilities:
    """A host whose `nft` is this script in an `open_directory`, which everybody can run, and write beside."""
    directory.chmod(0o777)
    program = directory / "nft"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    return replace(with_stack(), nft=PacketFilter(str(program)))


@real
async def test_a_filter_that_cannot_be_loaded_lets_no_script_run(open_directory: Path) -> None:
    result = await run("echo ran", with_nft(open_directory, "echo 'no such table' >&2; exit 1"))

    assert result.refused
    assert result.stdout == ""
    assert "no such table" in result.sandbox.downgrades[-1].reason
    assert not result.sandbox.enforced.network


@real
async def test_there_is_no_link_while_the_filter_is_being_loaded(open_directory: Path) -> None:
    seen = open_directory / "interfaces"
    real_nft = probe().nft
    assert isinstance(real_nft, PacketFilter)
    script = f'ls /sys/class/net >/dev/null; ip -o link >{seen}; exec {real_nft.path} "$@"'

    result = await run("ip -o link", with_nft(open_directory, script))

    assert [line.split(":")[1].strip() for line in seen.read_text().splitlines()] == ["lo"]
    assert "egress0" in result.stdout, result.stderr


@real
async def test_a_link_that_cannot_be_made_lets_no_script_run() -> None:
    broken = replace(with_stack(), slirp4netns=SlirpProgram("/bin/false"))

    result = await run("echo ran", broken)

    assert result.refused
    assert result.stdout == ""
    assert "slirp4netns ended" in result.sandbox.downgrades[-1].reason


def links(network_of: int | None = None, among: Callable[[], set[int]] = descendants) -> list[int]:
    """The stacks that send from the network of that process, by default from ours: other tests' worlds have theirs."""
    network = _network(network_of or os.getpid())
    return marked_processes(
        "--disable-host-loopback", lambda: {pid for pid in among() if _network(pid) == network}
    )


@real
async def test_a_link_is_never_made_in_the_supervisors_own_network() -> None:
    with pytest.raises(LinkFailed, match="not in a network namespace of its own"):
        await attach(decide(listed("10.0.0.5")), os.getpid(), Identity(65532, 65532))


@real
async def test_a_stack_that_dies_under_a_script_is_reported_and_nothing_is_let_through() -> None:
    # It goes on after that, so that it is the script that outlives the link whatever is told first.
    watch = "while ip link show egress0 >/dev/null 2>&1; do sleep 0.02; done; echo gone; sleep 1"

    async with asyncio.TaskGroup() as group:
        task = group.create_task(run(f"exec sh -c '{watch}' watches-the-link", timeout_ms=60_000))
        await until(lambda: marked_processes("watches-the-link") or task.done())
        for pid in links():
            os.kill(pid, signal.SIGKILL)

    result = task.result()
    assert result.stdout == "gone\n", result.stderr
    assert any("the link went away while the script ran" in note.note for note in result.sandbox.notes)


@real
async def test_a_run_and_its_link_end_together() -> None:
    await run("sleep 60", timeout_ms=100)

    assert links() == []


@real
async def test_a_cancelled_run_takes_its_link_along() -> None:
    task = asyncio.create_task(run("sleep 60"))
    await until(links)

    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task

    assert links() == []


@real
async def test_the_link_of_a_supervisor_that_is_killed_ends_too(tmp_path: Path) -> None:
    with worlds.world(tmp_path) as world:
        supervisor = world.supervisor(sabotage="relay")
        assert supervisor.stdin is not None
        request = {"kind": "shell", "script": "sleep 60", "timeout_ms": 60_000}
        supervisor.stdin.write(json.dumps({"policy": LISTED, "request": request}) + "\n")
        supervisor.stdin.flush()
        await until(lambda: links(world.pid, everyone))

        supervisor.kill()

        await until(lambda: not links(world.pid, everyone))


def _network(pid: int) -> int | None:
    """Which network namespace a process is in; None if it is gone."""
    try:
        return Path(f"/proc/{pid}/ns/net").stat().st_ino
    except OSError:
        return None


@real
async def test_many_runs_with_a_link_at_once_each_get_their_own() -> None:
    results = await asyncio.gather(
        *(run("ip -o -4 address show egress0; cat /proc/net/route") for _ in range(6))
    )

    assert [result.exit_code for result in results] == [0] * 6
    assert all("198.19.254.100/24" in result.stdout for result in results)


@real
async def test_a_run_with_a_link_leaves_no_descriptor_open_in_the_supervisor() -> None:
    await run(":")
    before = await descriptors()

    for _ in range(3):
        await run(":")

    for left in runner().pool.clear():
        await asyncio.wrap_future(left)
    assert await descriptors() <= before


@real
@pytest.mark.parametrize(
    "network", [{"mode": "deny"}, {"mode": "unrestricted"}], ids=lambda n: str(n["mode"])
)
async def test_with_the_hosts_files_a_run_has_no_more_descriptors_and_still_its_own_resolver(
    network: dict[str, Any],
) -> None:
    policy = {"filesystem": {"mode": "off"}, "network": network}
    script = "cat /etc/resolv.conf >&2; ls /proc/self/fd"

    result = await run(script, policy=policy)

    assert result.stdout.split() == ["0", "1", "2", "3"]  # 3 is the directory that ls looks at
    if network["mode"] == "unrestricted" and probe().host_network.resolvers:
        assert result.stderr == "nameserver 198.19.254.3\n"
    else:
        assert result.stderr == Path("/etc/resolv.conf").read_text()


@requires("root")
def test_the_pipe_that_tells_of_readiness_is_opened_before_anybody_else_could_put_something_in_its_place(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "precious").write_text("of the supervisor")
    chown = os.chown

    def chown_and_replace(path: str, uid: int, gid: int) -> None:
        chown(path, uid, gid)
        if os.path.isdir(path):
            os.unlink(f"{path}/ready")
            os.symlink(tmp_path / "precious", f"{path}/ready")

    monkeypatch.setattr(os, "chown", chown_and_replace)
    with program.ready_file(Identity(65532, 65532)) as file:
        assert os.path.islink(file.path)
        assert stat.S_ISFIFO(os.fstat(file.descriptor).st_mode)


@real
async def test_the_stacks_own_memory_and_connections_are_bounded() -> None:
    def limits() -> list[str]:
        found = []
        for pid in descendants():
            with contextlib.suppress(OSError):
                if Path(f"/proc/{pid}/cmdline").read_bytes().startswith(b"slirp4netns\0"):
                    found.append(Path(f"/proc/{pid}/limits").read_text())
        return found

    running = asyncio.create_task(run("sleep 60"))
    try:
        found = await until(limits, "a stack to be there")
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
    for text in found:
        rows = {line[:25].strip(): line[26:].split()[:2] for line in text.splitlines()}
        assert rows["Max data size"] == ["268435456", "268435456"]
        assert rows["Max open files"] == ["1024", "1024"]
