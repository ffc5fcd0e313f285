"""These tests install services into the machine that they run on: only the virtual machine of tools/vm is for that."""

from __future__ import annotations

from pathlib import Path

IN_THE_MACHINE = Path("/run/units/command.service")
"""The unit that tools/vm/guest starts tests by."""

collect_ignore = [] if IN_THE_MACHINE.exists() else ["test_an_agent_as_a_service.py"]
