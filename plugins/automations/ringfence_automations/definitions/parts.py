"""What all parts of a definition share: how they are read, and names."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import ConfigDict, StringConstraints
from ringfence import WireModel
from ringfence.bounded import STORABLE


class Part(WireModel):
    """A part of a definition. What it does not know is refused; names are in camelCase, and in no other way."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False, populate_by_name=False)


MAX_EXPRESSION = 4000
"""How many characters an expression has at most."""
MAX_TEMPLATE = 16_000
"""How many characters a text with `{{ … }}` has at most."""
NAME = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")
"""What an automation may be called."""
_ID = r"[A-Za-z][A-Za-z0-9_-]{0,62}"
IDENTIFIER = r"[A-Za-z_][A-Za-z0-9_]{0,62}"

AutomationName = Annotated[str, StringConstraints(pattern=f"^{NAME.pattern}$"), STORABLE]
StepId = Annotated[str, StringConstraints(pattern=f"^{_ID}$"), STORABLE]
"""A step's id: `artifacts.ID`; one with hyphens is written `artifacts["ID"]`."""
Identifier = Annotated[str, StringConstraints(pattern=f"^{IDENTIFIER}$"), STORABLE]
"""A name that expressions can use."""
ExpressionText = Annotated[str, StringConstraints(min_length=1, max_length=MAX_EXPRESSION), STORABLE]
"""An expression (CEL), as it is written."""
TemplateText = Annotated[str, StringConstraints(max_length=MAX_TEMPLATE), STORABLE]
"""A text in which `{{ … }}` stand for values."""
HookName = Annotated[str, StringConstraints(max_length=200, pattern=r"^[a-z][a-z0-9-]*$"), STORABLE]
