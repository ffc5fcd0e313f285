"""The templates of a step's body, filled in when it is performed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ringfence.expressions import ExpressionError, Schema, Template

from ringfence_automations.service import StepFailed


def fill(text: str, values: Mapping[str, Any]) -> str:
    """The text with its expressions evaluated. Raises `StepFailed`."""
    # They were checked against their schemas when they were written.
    scope = {name: Schema.anything() for name in values}
    try:
        return Template.parse(text, scope).render(values)
    except ExpressionError as error:
        raise StepFailed(f"a template cannot be filled in: {error}") from None
