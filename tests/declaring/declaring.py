"""Documents of every kind, and a way to have a host apply some."""

from __future__ import annotations

import json
from typing import Any

import httpx

APPLY, EXPORT = "/api/host/apply", "/api/host/export"
SATELLITE = """
apiVersion: ringfence/v1
kind: Satellite
metadata: {name: edge-1, labels: {env: prod}}
spec:
  region: eu
  tags: [web]
  vars: {disk_warn: "80"}
  offlineAfterSeconds: 1m
"""
POLICY = """
apiVersion: ringfence/v1
kind: SandboxPolicy
metadata: {name: sandbox-policy}
spec:
  network: {mode: allowlist, allow: ["192.0.2.1:443"]}
  resources: {cpuSeconds: 30s}
"""
PACKAGES = """
apiVersion: ringfence/v1
kind: ScriptPackages
metadata: {name: web-tools}
spec: {pypi: ["requests>=2"], npm: ["zod@^3"], install: false}
"""
CHECK = """
apiVersion: ringfence/v1
kind: Check
metadata: {name: web}
spec:
  system: shop
  kind: shell
  scriptFile: scripts/web.sh
  intervalSeconds: 5m
  runsOn: {satellites: [edge-1]}
  needs: {network: ["192.0.2.1:443"]}
"""
CHANNEL = """
apiVersion: ringfence/v1
kind: NotificationChannel
metadata: {name: on-call}
spec: {addressSecret: ON_CALL, atLeast: error, quiet: {begins: "22:00", ends: "06:00"}}
"""
ROUTE = """
apiVersion: ringfence/v1
kind: NotificationRoute
metadata: {name: new-satellites}
spec:
  hook: satellite-registered
  title: "{{ event.name }} is new"
  channels: [on-call]
  windowSeconds: 1m
"""
SILENCE = """
apiVersion: ringfence/v1
kind: Silence
metadata: {name: new-disk}
spec: {check: web, satellite: edge-1, from: 2030-01-01T00:00:00Z, forSeconds: 2h, reason: a new disk}
"""
AUTOMATION = """
apiVersion: ringfence/v1
kind: Automation
metadata: {name: greet}
spec:
  triggers: [{hook: satellite-registered}]
  steps:
    - run_shell: {scriptFile: scripts/web.sh}
"""
EVERY = (AUTOMATION, SILENCE, CHECK, ROUTE, CHANNEL, SATELLITE, PACKAGES, POLICY)
"""The other way round than they depend on each other."""
FILES = {"all.yaml": "---".join(EVERY), "scripts/web.sh": "echo 'on: off'\n\n  exit 0\n"}


async def apply(
    caller: httpx.AsyncClient, files: dict[str, str] | str, *, status: int = 200, **more: Any
) -> dict[str, Any]:
    """The answer to an application of files, or of one text."""
    files = {"one.yaml": files} if isinstance(files, str) else files
    body = {"files": [{"path": path, "text": text} for path, text in files.items()], **more}
    answer = await caller.post(APPLY, json=body)
    assert answer.status_code == status, answer.text
    found: dict[str, Any] = answer.json()
    return found


def changes(answer: dict[str, Any]) -> dict[str, str]:
    """What became of each object."""
    return {f"{one['kind']}/{one['name']}": one["change"] for one in answer["objects"]}


def places(answer: dict[str, Any]) -> list[str]:
    """Where something is wrong, each with what."""
    return [f"{one['file']}:{one['line']}:{one['column']}: {one['message']}" for one in answer["errors"]]


def as_documents(export: dict[str, Any]) -> dict[str, str]:
    """An export as a file to apply, without what comes of the host itself."""
    return {"all.json": "\n---\n".join(json.dumps(one) for one in export["documents"])}
