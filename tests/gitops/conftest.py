"""Hosts that may follow repositories in the file system and over plain HTTP."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.gitops.repositories import Repository


@pytest.fixture(autouse=True)
def allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RINGFENCE_GITOPS_SCHEMES", "https,ssh,http,file")
    monkeypatch.setenv("RINGFENCE_GITOPS_TIMEOUT_SECONDS", "30")


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    return Repository(tmp_path / "remote")
