"""Options that several commands have, written down once: a dataclass of options as one parameter of each command.

Typer reads a command's signature and knows no such groups. `with_groups` gives it a signature in which each group is
replaced by its fields, and hands the command the groups.
"""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable, Iterator
from typing import Any, get_type_hints


def with_groups(command: Callable[..., None]) -> Callable[..., None]:
    """Make a command line of a command, some of whose parameters are dataclasses of options.

    The options stand where the parameter stands. Each field is annotated as a parameter would be, and has a default.
    """
    signature = inspect.signature(command, eval_str=True)
    groups: dict[str, Any] = {
        name: parameter.annotation
        for name, parameter in signature.parameters.items()
        if dataclasses.is_dataclass(parameter.annotation)
    }

    def taking(**values: Any) -> None:
        given = {
            name: group(**{field.name: values.pop(field.name) for field in dataclasses.fields(group)})
            for name, group in groups.items()
        }
        command(**given, **values)

    def parameters() -> Iterator[inspect.Parameter]:
        for name, parameter in signature.parameters.items():
            if name in groups:
                yield from _parameters(groups[name], parameter.kind)
            else:
                yield parameter

    # Not `functools.wraps`: it would lead to the annotations of `command`, which has other parameters.
    taking.__name__, taking.__doc__, taking.__module__ = command.__name__, command.__doc__, command.__module__
    shown = list(parameters())
    taking.__signature__ = signature.replace(parameters=shown)  # type: ignore[attr-defined]
    taking.__annotations__ = {parameter.name: parameter.annotation for parameter in shown}
    return taking


def _parameters(group: Any, kind: inspect._ParameterKind) -> Iterator[inspect.Parameter]:
    hints = get_type_hints(group, include_extras=True)
    for field in dataclasses.fields(group):
        yield inspect.Parameter(field.name, kind, default=field.default, annotation=hints[field.name])
