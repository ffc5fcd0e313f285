"""Every number and every truth value of every model that is read from JSON: a text is neither, nor is one the other."""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError
from pydantic_settings import BaseSettings

from tests.boundaries.hostile import NO_NUMBERS, NO_TRUTHS, Walk

SOURCES = (Path(__file__).parents[2] / "host", *Path(__file__).parents[2].glob("plugins/*"))


def load_all() -> None:
    """Load every module of ours that has models, also those of commands that few hosts load."""
    for root in SOURCES:
        for path in root.glob("ringfence*/**/*.py"):
            if "Model):" in path.read_text():
                importlib.import_module(".".join(path.relative_to(root).with_suffix("").parts))


def models(kind: type[BaseModel] = BaseModel) -> Iterator[type[BaseModel]]:
    """Every model of ours that is loaded. What settings read is text."""
    for one in kind.__subclasses__():
        if one.__module__.startswith("ringfence") and not issubclass(one, BaseSettings):
            yield one
        yield from models(one)


def wrong_values(walk: Walk, schema: Mapping[str, Any]) -> Iterator[Any]:
    """What must not be taken in place of a number or a truth value that is somewhere in a field."""
    schema = walk.resolved(schema)
    match schema.get("type"):
        case "integer" | "number":
            yield from NO_NUMBERS
        case "boolean":
            yield from NO_TRUTHS
        case "array" if "items" in schema:
            yield from ([value] for value in wrong_values(walk, schema["items"]))
        case "object" if isinstance(inner := schema.get("additionalProperties"), dict):
            yield from ({"A": value} for value in wrong_values(walk, inner))


def complaints(model: type[BaseModel], given: Mapping[str, Any]) -> set[Any]:
    """The fields about which the model complains."""
    try:
        model.model_validate(given, by_alias=True, by_name=False)
    except ValidationError as error:
        return {problem["loc"][0] for problem in error.errors() if problem["loc"]}
    return set()


def test_a_number_is_a_number_wherever_json_is_read() -> None:
    load_all()
    taken, tried = set[str](), set[str]()
    for model in set(models()):
        schema = model.model_json_schema(by_alias=True)
        walk = Walk(schema.get("$defs", {}))
        for name, field in schema.get("properties", {}).items():
            for value in wrong_values(walk, field):
                tried.add(f"{model.__name__}.{name}")
                if name not in complaints(model, {name: value}):
                    taken.add(f"{model.__module__}.{model.__name__}.{name} took {value!r}")
    assert len(tried) > 50, tried
    assert not taken, sorted(taken)
