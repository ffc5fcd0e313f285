"""docs/automations.md: each of its definitions and lists of steps is one that a host takes."""

from __future__ import annotations

import re
import textwrap
from pathlib import Path

import pytest
from pydantic import BaseModel
from ringfence import HookDirectory
from ringfence_automations.bodies import BUILT_IN_MODELS
from ringfence_automations.definitions.definition import Definition
from ringfence_automations.definitions.reading.accepting import accept
from ringfence_automations.definitions.scopes import Schemas
from ringfence_automations.definitions.step import HEADER
from ringfence_health_checks.hooks import health_state_changed
from ringfence_satellite.hooks import satellite_heartbeat_lost

from tests.automations.definitions.samples import RESTART_WEB

PAGE = (Path(__file__).parents[3] / "docs" / "automations.md").read_text()
BLOCKS = re.findall(r"^```yaml[^\n]*\n(.*?)^```$", PAGE, flags=re.MULTILINE | re.DOTALL)
HEAD = "name: sample\ntriggers: [{hook: health-state-changed}]\nsteps:\n"


class Anything(BaseModel, extra="allow"):
    """What a plugin's own kind of step may have."""


DIRECTORY = HookDirectory()
DIRECTORY.add("health-checks", [health_state_changed])
DIRECTORY.add("satellite", [satellite_heartbeat_lost])
KINDS: dict[str, type[BaseModel]] = {**BUILT_IN_MODELS, "diary_entry": Anything}


def test_the_page_shows_some() -> None:
    assert len(BLOCKS) >= 3
    assert BLOCKS[1] == RESTART_WEB


@pytest.mark.parametrize("block", BLOCKS, ids=lambda one: str(one)[:30])
def test_what_the_page_shows_is_taken(block: str) -> None:
    if block.startswith("triggers:"):
        block = f"name: sample\n{block}steps: [{{stop: {{}}}}]\n"
    elif not block.startswith("name:"):
        # Steps alone: those of which they have the artifacts come before them.
        ids = set(re.findall(r"artifacts\.(\w+)", block)) - set(re.findall(r"\bid: (\w+)", block))
        before = "".join(f"  - {{id: {one}, stop: {{}}}}\n" for one in sorted(ids))
        block = f"{HEAD}{before}{textwrap.indent(block, '  ')}"
    accept(block, Schemas(DIRECTORY), KINDS)


def test_each_field_of_a_definition_and_of_all_steps_is_told_of() -> None:
    fields = [field.alias or name for name, field in Definition.model_fields.items()]
    assert [name for name in (*fields, *HEADER) if f"`{name}`" not in PAGE] == []
