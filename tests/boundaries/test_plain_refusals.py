"""What a model refuses is put into words by one module: nobody else passes on what pydantic says to programmers."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
IN_WORDS = ROOT / "host/ringfence/refusals.py"
SOURCES = [path for room in ("host", "plugins") for path in sorted((ROOT / room).rglob("*.py"))]


def passed_on(source: str) -> Iterator[int]:
    """The lines at which a program tells a `ValidationError` in pydantic's own words."""
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, ast.Subscript) and ast.unparse(node.slice) == "'msg'":
            yield node.lineno
        elif isinstance(node, ast.ExceptHandler) and node.type is not None and node.name:
            kinds = node.type.elts if isinstance(node.type, ast.Tuple) else [node.type]
            if any(ast.unparse(kind) == "ValidationError" for kind in kinds):
                yield from _told(node, node.name)


def _told(handler: ast.ExceptHandler, name: str) -> Iterator[int]:
    for node in ast.walk(handler):
        if isinstance(node, ast.FormattedValue):
            found = ast.unparse(node.value) == name
        else:
            found = isinstance(node, ast.Call) and ast.unparse(node) in {f"str({name})", f"repr({name})"}
        if found:
            yield handler.lineno


def test_nobody_tells_what_pydantic_says_to_programmers() -> None:
    assert len(SOURCES) > 500
    found = {
        f"{path.relative_to(ROOT)}:{line}"
        for path in SOURCES
        if path != IN_WORDS
        for line in passed_on(path.read_text())
    }
    assert found == set()


@pytest.mark.parametrize(
    "source",
    [
        "print(one['msg'])",
        "try: ...\nexcept ValidationError as error: print(f'no: {error}')",
        "try: ...\nexcept (Problem, ValidationError) as wrong: raise ValueError(str(wrong))",
    ],
)
def test_whoever_does_is_found(source: str) -> None:
    assert [*passed_on(source)]
