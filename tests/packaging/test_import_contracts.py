"""The contract that says what a package may import notices everything else."""

from __future__ import annotations

from typing import Any

import pytest
from grimp import ImportGraph

from tools.import_contracts import OnlyContract, is_allowed


@pytest.mark.parametrize(
    ("module", "patterns", "expected"),
    [
        ("a.b", ["a.b"], True),
        ("a.b.c", ["a.b"], False),
        ("a.b.c", ["a.b.**"], True),
        ("a.b", ["a.b.**"], True),
        ("a.bc", ["a.b.**"], False),
        ("a.x.hooks", ["a.*.hooks"], True),
        ("a.x.y", [], False),
    ],
)
def test_a_pattern_allows_a_module_or_all_beneath_it(
    module: str, patterns: list[str], expected: bool
) -> None:
    assert is_allowed(module, patterns) is expected


def contract(**options: Any) -> OnlyContract:
    session: dict[str, Any] = {"root_packages": ["box"]}
    return OnlyContract("boxed", session, {"source": "box", "may_import": ["pydantic"], **options})


def graph_of(*imports: tuple[str, str]) -> ImportGraph:
    graph = ImportGraph()
    for module in ("box", "box.lid", "box.side"):
        graph.add_module(module)
    for importer, imported in imports:
        if imported not in graph.modules:
            graph.add_module(imported, is_squashed="." not in imported and imported != "box")
        graph.add_import(importer=importer, imported=imported, line_number=3, line_contents="import it")
    return graph


def test_itself_the_standard_library_and_what_is_named_are_allowed() -> None:
    graph = graph_of(("box.lid", "box.side"), ("box.lid", "json"), ("box.side", "pydantic"))
    assert contract().check(graph, verbose=False).kept


@pytest.mark.parametrize("imported", ["sqlalchemy", "boxing.ring"])
def test_anything_else_breaks_it_and_is_named(imported: str) -> None:
    checked = contract().check(graph_of(("box.lid", imported)), verbose=False)
    assert not checked.kept
    assert checked.metadata["broken"] == [("box.lid", imported, 3)]


def test_a_module_with_a_contract_of_its_own_is_left_out() -> None:
    assert contract(except_for=["box.lid"]).check(graph_of(("box.lid", "sqlalchemy")), verbose=False).kept


def test_a_misspelt_source_is_no_kept_contract() -> None:
    with pytest.raises(ValueError, match="no module named bocks"):
        contract(source="bocks").check(graph_of(), verbose=False)
