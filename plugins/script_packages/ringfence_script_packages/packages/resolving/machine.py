"""Which registries this machine's own tools are configured for: pip, uv and npm are asked, each time anew."""

from __future__ import annotations

import ast
import json
import os
import re
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from urllib.parse import urlsplit

from ringfence_script_packages.packages.errors import PackagesError, Why
from ringfence_script_packages.packages.resolving.machine_credentials import (
    npm_credential,
    npm_variables,
    npmrc,
    python_credentials,
)
from ringfence_script_packages.packages.resolving.programs import (
    MissingProgramError,
    node_and_npm,
    uv_program,
)
from ringfence_script_packages.packages.resolving.registries import (
    Registries,
    Registry,
    RegistrySettings,
    registry_address,
    without_password,
)

_SECONDS = 30.0
_PIP_LINE = re.compile(r"([A-Za-z0-9_.:-]+)=('.*'|\".*\")")


def registries_of(settings: RegistrySettings) -> Registries:
    """The registries that hold: those of the settings, and the machine's own where they say nothing.

    It starts programs: not for an event loop.

    Raises:
        PackagesError: if the machine names a registry that cannot be used.
    """
    own = settings.python_indexes, settings.npm_registry
    python = Registries() if own[0] else _python(os.environ)
    npm = _npm(os.environ)
    found = Registries(
        python=tuple(Registry(url) for url in own[0]) or python.python,
        npm=Registry(own[1]) if own[1] else npm.npm,
        npm_scopes={**npm.npm_scopes, **{scope: Registry(url) for scope, url in settings.npm_scopes.items()}},
        merged=not own[0],
        cafiles=(*python.cafiles, *npm.cafiles),
        proxy=python.proxy or npm.proxy,
        direct=npm.direct,
    )
    return _with_secrets(found, settings.credentials)


def _with_secrets(found: Registries, credentials: Mapping[str, str]) -> Registries:
    def named(registry: Registry) -> Registry:
        secret = credentials.get(registry.url)
        return (
            registry if secret is None else replace(registry, secret=secret, authorization=None, unmet=None)
        )

    return replace(
        found,
        python=tuple(map(named, found.python)),
        npm=named(found.npm) if found.npm else None,
        npm_scopes={scope: named(each) for scope, each in found.npm_scopes.items()},
    )


def _python(environment: Mapping[str, str]) -> Registries:
    """The indexes of uv's variables, else of pip's configuration; uv knows which one is the default of both."""
    pip = _pip_settings()
    default = environment.get("UV_DEFAULT_INDEX") or environment.get("UV_INDEX_URL")
    default = default or pip.get("index-url") or _uv_default()
    extra = (
        environment.get("UV_INDEX") or environment.get("UV_EXTRA_INDEX_URL") or pip.get("extra-index-url", "")
    )
    if pip.get("no-index", "").lower() in ("1", "true", "yes", "on"):
        default = extra = ""
    pythons = python_credentials(pip, environment)
    indexes = [each for each in (default, *extra.split()) if each]
    flat = [_as_url(each) for each in pip.get("find-links", "").split()]
    return Registries(
        python=(
            *(pythons.known(_registry(url, "pip"), name) for url, name in _named(indexes).items()),
            # A page of links somewhere else is a thing of the past; pip itself asks for an index.
            *(replace(_registry(url, "pip"), flat=True) for url in flat if url.startswith("file:")),
        ),
        cafiles=tuple(path for path in (pip.get("cert"),) if path),
        proxy=_proxy(pip.get("proxy"), "pip"),
    )


def _named(indexes: list[str]) -> dict[str, str | None]:
    """The addresses of indexes, each with the name that uv may have before it."""
    found: dict[str, str | None] = {}
    for each in indexes:
        match = re.fullmatch(r"(?:([A-Za-z0-9_.-]+)=)?(.*)", each)
        assert match is not None
        found.setdefault(match[2], match[1])
    return found


def _registry(url: str, tool: str) -> Registry:
    if url.startswith("file:"):
        return Registry(url.rstrip("/"))
    try:
        address, header = without_password(url)
        return Registry(registry_address(address), header)
    except ValueError as error:
        raise PackagesError(
            Why.FAILED,
            f"a registry in the configuration of {tool} on this machine cannot be used: its address {error}",
            hint=f"correct the configuration of {tool}, or set the address of the registry in Ringfence",
        ) from None


def _as_url(path: str) -> str:
    return Path(path).absolute().as_uri() if "://" not in path and not path.startswith("file:") else path


def _pip_settings() -> dict[str, str]:
    """What `pip config list` tells, the strongest last: global, for installing, and variables."""
    answer = _asked([sys.executable, "-m", "pip", "--isolated", "--version"])
    command = [sys.executable, "-m", "pip"] if answer is not None else ["pip"]
    told = _asked([*command, "config", "list"]) or ""
    found: dict[int, dict[str, str]] = {0: {}, 1: {}, 2: {}}
    for line in told.splitlines():
        if (match := _PIP_LINE.fullmatch(line.strip())) is None:
            continue
        section, _, name = match[1].rpartition(".")
        strength = {"global": 0, "install": 1, ":env:": 2}.get(section)
        if strength is not None:
            try:
                found[strength][name] = str(ast.literal_eval(match[2]))
            except (ValueError, SyntaxError):
                continue
    return {**found[0], **found[1], **found[2]}


def _uv_default() -> str:
    told = _asked([uv_program(), "pip", "compile", "--help"]) or ""
    match = re.search(r"by\s+default:\s+<(https://[^>\s]+)>", told)
    if match is None:
        raise PackagesError(
            Why.FAILED,
            "uv does not tell which Python index is its default",
            hint="set the address of a Python index",
        )
    return match[1]


def _npm(environment: Mapping[str, str]) -> Registries:
    """The registry and scopes of npm; nothing where there is no npm on this machine."""
    try:
        program = node_and_npm()
    except MissingProgramError:
        return Registries()
    told = _asked([program.node, program.npm, "config", "list", "--json"])
    try:
        config = json.loads(told or "")
    except ValueError:
        return Registries()
    # npm keeps credentials to itself, so they are read where it reads them: the later file is the stronger one.
    lines: dict[str, str] = {}
    for path in (
        f"{Path(program.npm).parents[1]}/npmrc",
        config.get("globalconfig"),
        config.get("userconfig"),
    ):
        if isinstance(path, str):
            lines.update(npmrc(path, environment))
    lines.update(npm_variables(environment))
    registry = config.get("registry")
    scopes = {
        name.removesuffix(":registry"): npm_credential(_registry(value, "npm"), lines)
        for name, value in config.items()
        if name.startswith("@") and name.endswith(":registry") and isinstance(value, str)
    }
    cafile = config.get("cafile")
    # What npm tells of a proxy, it tells without the password.
    proxy = lines.get("https-proxy") or lines.get("proxy") or config.get("https-proxy") or config.get("proxy")
    return Registries(
        npm=npm_credential(_registry(registry, "npm"), lines)
        if isinstance(registry, str) and registry
        else None,
        npm_scopes=scopes,
        cafiles=tuple(
            path
            for path in (cafile, environment.get("NODE_EXTRA_CA_CERTS"))
            if isinstance(path, str) and path
        ),
        proxy=_proxy(proxy, "npm"),
        direct=tuple(host for each in _listed(config.get("noproxy")) if (host := each.strip().lstrip("."))),
    )


def _listed(value: object) -> list[str]:
    """What npm has as a list, or as a text with commas."""
    parts = value if isinstance(value, list) else [value]
    return [each for part in parts if isinstance(part, str) for each in part.split(",")]


def _proxy(address: object, tool: str) -> str | None:
    """The proxy that a tool is configured for, as an address; None if there is none."""
    if not isinstance(address, str) or not address:
        return None
    if "://" not in address:
        address = f"http://{address}"
    parts = urlsplit(address)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise PackagesError(
            Why.FAILED,
            f"the proxy in the configuration of {tool} on this machine cannot be used: it is no http or https address",
            hint=f"correct the configuration of {tool}",
        )
    return address


def _asked(command: list[str]) -> str | None:
    """What a tool of this machine tells of its configuration; not in a project's directory, which may have its own."""
    try:
        # It is this machine's own tool, with its own configuration; nothing here comes from a caller.
        answer = subprocess.run(
            command,
            capture_output=True,
            text=True,
            errors="replace",
            cwd="/",
            timeout=_SECONDS,
            stdin=subprocess.DEVNULL,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return answer.stdout if answer.returncode == 0 else None
