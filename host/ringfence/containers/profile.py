"""The system calls that a container around Ringfence has to allow, as runtimes read it."""

from __future__ import annotations

from pathlib import Path

from ringfence.containers.missing import PROFILE


def seccomp_profile() -> str:
    """The profile's text: what Docker, Podman, CRI-O and containerd take as a file."""
    return Path(__file__).with_name(PROFILE).read_text()
