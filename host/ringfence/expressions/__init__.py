"""Expressions (CEL) over JSON, and texts with expressions in them: checked when written, bounded when evaluated.

`Expression.parse('event.status == "unhealthy"', {"event": Schema.of_model(Model)}, returns="bool")` raises
`ExpressionError` with the place of whatever is wrong; `evaluate({"event": …})` answers JSON.

The language is the Common Expression Language: it has no loops but those over lists, no assignments, no effects and no
clock, so it ends, and the same values give the same answer. We evaluate it ourselves, since no library holds the bounds
that a host needs: see docs/automations.md#the-language.
"""

from ringfence.expressions.errors import ExpressionError, LimitError, MissingError
from ringfence.expressions.expression import Expression, Returns
from ringfence.expressions.near_names import near
from ringfence.expressions.schema import Schema, Scope
from ringfence.expressions.template import Template

__all__ = [
    "Expression",
    "ExpressionError",
    "LimitError",
    "MissingError",
    "Returns",
    "Schema",
    "Scope",
    "Template",
    "near",
]
