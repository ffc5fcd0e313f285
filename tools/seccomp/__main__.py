"""Writes the profile to where it is kept."""

from __future__ import annotations

from tools.seccomp.profile import WRITTEN, profile, text

for path in WRITTEN:
    path.write_text(text(profile()))
