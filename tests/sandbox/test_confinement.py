"""What a confinement by Landlock is decided to be, where user namespaces are blocked."""

from __future__ import annotations

import json
from typing import Any

from ringfence.sandbox.capabilities.found import Landlock
from ringfence.sandbox.filters.landlock import (
    BIND_TCP,
    CONNECT_TCP,
    SCOPE_ABSTRACT_UNIX_SOCKET,
    SCOPE_SIGNAL,
    Confinement,
    File,
    listed_ports,
)
from ringfence.sandbox.filters.seccomp import Architecture
from ringfence.sandbox.plan.decide import plan
from ringfence.sandbox.plan.model import Inputs, Interpreter, Plan
from ringfence.sandbox.policy import Network

from tests.sandbox.hosts import linux, with_blocked_namespaces, with_nothing
from tests.sandbox.test_plan import DEGRADE, lacking, planned, refused, snapshot


def confinement(**differences: Any) -> Confinement:
    default: dict[str, Any] = {
        "abi": 7,
        "files": True,
        "programs": ("/usr",),
        "readable": (),
        "sockets": False,
        "ports": None,
        "python": "/usr/bin/python3",
    }
    return Confinement(**{**default, **differences})


def orders(**differences: Any) -> dict[str, Any]:
    made: dict[str, Any] = json.loads(
        confinement(**differences).to_json(Architecture.X86_64, "/scratch", "/script")
    )
    return made


def test_a_kernel_is_asked_only_for_what_its_version_knows() -> None:
    assert confinement(abi=1).handled == File(0x1FFF)
    assert confinement(abi=2).handled == File(0x3FFF)
    assert confinement(abi=3).handled == File(0x7FFF)
    assert confinement(abi=5).handled == File(0xFFFF)
    assert [orders(abi=abi)["size"] for abi in (1, 3, 4, 5, 6, 7)] == [8, 8, 16, 16, 24, 24]
    assert orders(abi=3, sockets=True, ports=(80,))["ports"] == []
    assert orders(abi=6)["attributes"] == [0xFFFF, BIND_TCP, SCOPE_ABSTRACT_UNIX_SOCKET | SCOPE_SIGNAL]


def test_a_rule_never_allows_what_is_not_handled_which_the_kernel_would_refuse() -> None:
    for abi in range(1, 8):
        handled = int(confinement(abi=abi).handled)
        assert all(access & ~handled == 0 for _, access in orders(abi=abi)["rules"])


def test_only_scratch_can_be_written_to() -> None:
    writing = File.WRITE_FILE | File.MAKE_REG | File.REMOVE_FILE | File.TRUNCATE | File.MAKE_DIR
    writable = [
        path for path, access in orders()["rules"] if access & writing and not path.startswith("/dev/")
    ]
    assert writable == ["/scratch"]


def test_tcp_is_restricted_to_ports_only_if_each_entry_names_some() -> None:
    def ports(*texts: str) -> tuple[int, ...] | None:
        return listed_ports(Network(allow=texts).ports)

    assert ports("10.0.0.5:443", "[2001:db8::1]:80-82") == (80, 81, 82, 443)
    assert ports("10.0.0.5:443", "10.0.0.6") is None
    assert ports("10.0.0.0/8:1-65535") is None
    assert ports("api.example.com:443", "localhost:8080", "unix:/run/app.sock") == (443, 8080)
    assert ports("10.0.0.5:443", "api.example.com") is None
    assert orders(sockets=True, ports=(80, 443))["attributes"][1] == BIND_TCP | CONNECT_TCP
    assert orders(sockets=True, ports=None)["attributes"][1] == BIND_TCP


def test_a_blocked_host_with_landlock_keeps_files_calls_and_the_network_and_lacks_limits_only() -> None:
    result = planned(with_blocked_namespaces(), DEGRADE)

    assert set(lacking(result.report)) == {"resources"}
    assert result.report.enforced.model_dump() == {
        "resources": False,
        "filesystem": True,
        "network": True,
        "privilege": True,
        "syscalls": True,
    }
    assert result.report.mechanisms["filesystem"].startswith("Landlock: only the system's programs")
    assert any("can still be looked at" in note.note for note in result.report.notes)
    assert set(lacking(refused(with_blocked_namespaces()).report)) == {"resources"}


def test_an_allowlist_is_no_more_than_its_tcp_ports_there_and_is_not_called_enforced() -> None:
    result = planned(with_blocked_namespaces(), DEGRADE | {"network": {"allow": ["10.0.0.5:443"]}})

    assert not result.report.enforced.network
    said = lacking(result.report)["network"]
    assert "Landlock restricts TCP to the listed ports (443) of any address; UDP is not restricted" in said


def test_a_landlock_that_does_not_cover_truncation_is_not_called_a_kept_filesystem() -> None:
    old = with_blocked_namespaces(landlock=Landlock(2))
    result = planned(old, DEGRADE)

    assert not result.report.enforced.filesystem
    assert "ABI 2 lets a script empty files that it cannot write to" in lacking(result.report)["filesystem"]
    assert result.confinement is not None


def test_a_landlock_without_scopes_is_said_to_leave_other_processes_within_reach() -> None:
    def said(abi: int) -> list[str]:
        host = with_blocked_namespaces(landlock=Landlock(abi))
        return [note.note for note in planned(host, DEGRADE).report.notes if note.layer == "privilege"]

    assert ["a script can end any process of its uid" in note for note in said(5)] == [True]
    assert said(6) == []


def test_where_namespaces_can_be_made_there_is_no_such_confinement() -> None:
    made = plan(linux(), snapshot(), Inputs(Interpreter.SHELL))
    assert isinstance(made, Plan)
    assert made.confinement is None
    assert planned(with_nothing(), DEGRADE).confinement is None
