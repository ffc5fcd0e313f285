"""Who may know which route: the host no plugin's, and commands only such as there are in a real host."""

from __future__ import annotations

import ast
import io
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import ringfence
import typer.main
from ringfence.cli import HostClient
from ringfence.cli.app import app

from tests.cli.conftest import Command
from tests.cli.instances import Command as Process

HOST = Path(ringfence.__file__).parent
OF_THE_HOST = {"host", "docs", "openapi", "ws"}
WITHOUT_A_HOST = {
    ("up",),
    ("demo",),
    ("agent", "install"),
    ("agent", "uninstall"),
    ("doctor",),
    ("settings",),
    ("check", "catalogue", "list"),
    ("check", "catalogue", "show"),
    ("plugin", "new"),
    ("plugin", "migration"),
    ("login",),
    ("logout",),
    ("profiles",),
    ("backup",),
    ("restore",),
    ("upgrade",),
    ("logs",),
}
"""Commands that ask no host, or one of their own; what `demo` and `login` ask, the other commands ask too."""

ID = "01234567-89ab-cdef-0123-456789abcdef"


def routes_of_plugins(source: str) -> set[str]:
    """The routes in the texts of a module that are below another name than the host's own."""
    texts = [node.value for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Constant)]
    found = {
        (name, route)
        for text in texts
        if isinstance(text, str)
        for route, name in re.findall(r"(/api/(?:ws/)?([a-z][a-z-]*)[\w/-]*)", text)
    }
    return {route for name, route in found if name not in OF_THE_HOST}


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ('POLICY = "/api/script-packages/sandbox-policy"', {"/api/script-packages/sandbox-policy"}),
        ('f"/api/satellite/runs/{id}"', {"/api/satellite/runs/"}),
        ('"/api/ws/satellite"', {"/api/ws/satellite"}),
        ('"/api/host/events"; f"/api/{plugin}"; "/api/ws/<plugin>"', set()),
    ],
)
def test_a_route_is_found_wherever_a_module_names_it(source: str, found: set[str]) -> None:
    assert routes_of_plugins(source) == found


def test_the_host_names_no_route_of_a_plugin() -> None:
    modules = list(HOST.rglob("*.py"))
    assert len(modules) > 100
    named = {str(path.relative_to(HOST)): routes_of_plugins(path.read_text()) for path in modules}
    assert {path: routes for path, routes in named.items() if routes} == {}


def leaves(command: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Every command that is no group, by the words that name it."""
    if not hasattr(command, "commands"):
        yield path
        return
    for name, one in command.commands.items():
        yield from leaves(one, (*path, name))


LINES: tuple[tuple[str, ...], ...] = (
    ("status",),
    ("token", "rules"),
    ("policy", "show"),
    ("policy", "set", "network.mode=deny"),
    ("policy", "patch", "resources.cpuSeconds=5"),
    ("policy", "show", "--revision", "1"),
    ("policy", "patch", "enabled=false", "--dry-run"),
    ("policy", "diff"),
    ("policy", "edit"),
    ("policy", "revert", "1", "--yes"),
    ("policy", "history"),
    ("policy", "verify"),
    ("policy", "rollout"),
    ("packages", "allow", "requests"),
    ("packages", "list"),
    ("packages", "install", "--detach"),
    ("packages", "status"),
    ("packages", "sets"),
    ("packages", "audit"),
    ("packages", "audit", "--now"),
    ("packages", "gc"),
    ("packages", "export", "unwritten.tar"),
    ("packages", "import", "/dev/null"),
    ("packages", "remove", "requests"),
    ("packages", "delete", "default", "--yes"),
    ("satellite", "create", "north"),
    ("satellite", "list"),
    ("satellite", "show", "north"),
    ("satellite", "show", ID),
    ("satellite", "update", "north", "--region", "east"),
    ("satellite", "label", "north", "env=dev", "old-"),
    ("satellite", "var", "north", "disk_warn=80"),
    ("satellite", "rotate-token", "north"),
    ("satellite", "claim", "north"),
    ("satellite", "enrol", "north", "--directory", "credentials"),
    ("run", "-c", "true"),
    ("run", "--satellite", "north", "--detach", "-c", "true"),
    ("runs", "list"),
    ("runs", "show", ID),
    ("runs", "cancel", ID),
    ("satellite", "runs", "list"),
    ("satellite", "runs", "show", ID),
    ("satellite", "runs", "cancel", ID),
    ("check", "try", "-c", "true", "--on", "core"),
    ("check", "create", "beat", "-c", "true", "--every", "3600", "--on", "north"),
    ("check", "list"),
    ("check", "show", "beat"),
    ("check", "update", "beat", "--system", "heart"),
    ("check", "disable", "beat"),
    ("check", "enable", "beat"),
    ("check", "run", "beat"),
    ("check", "results", "beat"),
    ("silence", "add", "--check", "beat", "--for", "2h", "--reason", "a disk"),
    ("silence", "list"),
    ("silence", "end", ID),
    ("policy", "suggest", "--check", "beat"),
    ("policy", "suggest", "--check", "beat", "--apply-needs", "--yes"),
    ("check", "delete", "beat", "--yes"),
    ("satellite", "delete", "north", "--yes"),
    ("secret", "set", "API_TOKEN"),
    ("secret", "list"),
    ("secret", "reseal"),
    ("secret", "delete", "API_TOKEN"),
    ("automation", "apply", "-f", "-"),
    ("automation", "list"),
    ("automation", "show", "small"),
    ("automation", "history", "small"),
    ("automation", "disable", "small"),
    ("automation", "enable", "small"),
    ("automation", "triggers"),
    ("automation", "try", "small"),
    ("automation", "try", "small", "--for-real"),
    ("automation", "run", "small"),
    ("automation", "runs"),
    ("automation", "logs", ID),
    ("automation", "logs", "small"),
    ("automation", "cancel", ID),
    ("automation", "webhook", "small", "--yes"),
    ("automation", "webhook", "small", "--show"),
    ("automation", "webhook", "small", "--remove", "--yes"),
    ("automation", "delete", "small", "--yes"),
    ("notify", "add", "ops", "json://127.0.0.1:9/x"),
    ("notify", "list"),
    ("notify", "change", "ops", "--off"),
    ("notify", "test", "ops"),
    ("notify", "routes"),
    ("notify", "route", "add", "new", "--hook", "satellite-registered", "--title", "new"),
    ("notify", "route", "change", "new", "--off"),
    ("notify", "route", "remove", "new", "--yes"),
    ("notify", "incidents"),
    ("notify", "ack", "1"),
    ("notify", "failed"),
    ("notify", "retry", "--all"),
    ("notify", "log"),
    ("notify", "remove", "ops", "--yes"),
    ("gitops", "add", "shop", "https://127.0.0.1:9/shop.git"),
    ("gitops", "list"),
    ("gitops", "show", "shop"),
    ("gitops", "status"),
    ("gitops", "change", "shop", "--branch", "live"),
    ("gitops", "sync", "shop", "--no-wait"),
    ("gitops", "webhook", "shop", "--yes"),
    ("gitops", "webhook", "shop", "--remove"),
    ("gitops", "release", "Check", "disk"),
    ("gitops", "give-back", "Check", "disk"),
    ("gitops", "remove", "shop", "--yes"),
    ("token", "create", "ann", "--rule", "host.plugin.read"),
    ("token", "list"),
    ("token", "narrow", "ann", "--rule", "host.plugin.read"),
    ("token", "revoke", "ann"),
    ("open", "--print"),
    ("sessions", "list"),
    ("sessions", "end", ID),
    ("events", "tail"),
    ("events", "failed"),
    ("events", "replay", "--all"),
    ("jobs", "list"),
    ("jobs", "show", ID),
    ("jobs", "cancel", ID),
    ("jobs", "retry", ID),
    ("jobs", "timetables"),
    ("plugins",),
    ("apply", "-f", "-"),
    ("diff", "-f", "-"),
    ("export",),
    ("schema", "Check"),
    ("support-bundle", "bundle.tar.gz"),
    ("drain",),
)


def test_every_command_is_tried() -> None:
    named = set(leaves(typer.main.get_command(app))) - WITHOUT_A_HOST
    tried = {max((name for name in named if line[: len(name)] == name), key=len) for line in LINES}
    assert tried == named


@pytest.fixture
def instance(open_directory: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A whole host, which the commands find by themselves."""
    data_dir = open_directory / "data"
    process = Process("up", "--port", "0", "--no-satellite", "--data-dir", str(data_dir))
    try:
        process.until_it_says("Ctrl-C")
        monkeypatch.setenv("RINGFENCE_DATA_DIR", str(data_dir))
        monkeypatch.chdir(open_directory)
        yield
    finally:
        process.end()


@pytest.mark.slow
def test_commands_ask_only_for_routes_that_a_host_has(
    instance: None, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    with HostClient.connect() as host:
        served = host.request("GET", "/api/openapi.json")["paths"]
    patterns = {re.compile(re.sub(r"\{[^}]*\}", "[^/]+", path)): served[path] for path in served}
    asked: list[tuple[tuple[str, ...], str, str]] = []
    request = HostClient.request
    line: tuple[str, ...] = ()

    def noted(self: HostClient, method: str, path: str, **more: Any) -> Any:
        asked.append((line, method, path))
        return request(self, method, path, **more)

    download, upload = HostClient.download, HostClient.upload

    def noted_download(self: HostClient, path: str, *more: Any, **named: Any) -> Any:
        asked.append((line, "GET", path))
        return download(self, path, *more, **named)

    def noted_upload(self: HostClient, path: str, *more: Any, **named: Any) -> Any:
        asked.append((line, "POST", path))
        return upload(self, path, *more, **named)

    monkeypatch.setattr(HostClient, "request", noted)
    monkeypatch.setattr(HostClient, "download", noted_download)
    monkeypatch.setattr(HostClient, "upload", noted_upload)
    monkeypatch.setenv("VISUAL", "true")  # edits nothing
    for line in LINES:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"value")))
        command(*line)

    assert {line for line, _, _ in asked} == set(LINES)
    missing = [
        (line, method, path)
        for line, method, path in asked
        if not any(method.lower() in one for pattern, one in patterns.items() if pattern.fullmatch(path))
    ]
    assert missing == []
