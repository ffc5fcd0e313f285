"""An import-linter contract that names what a package may import, instead of what it may not."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from fnmatch import fnmatchcase

from grimp import ImportGraph
from importlinter import Contract, ContractCheck, fields, output


def is_allowed(module: str, patterns: Iterable[str]) -> bool:
    """Whether `module` is one of `patterns`: "a.b" is that module alone, "a.b.**" it and all beneath it."""
    for pattern in patterns:
        package = pattern.removesuffix(".**")
        if module == package or (package != pattern and module.startswith(f"{package}.")):
            return True
        if "*" in package and fnmatchcase(module, package):
            return True
    return False


def _strings(value: object) -> tuple[str, ...]:
    """The value of a list field, which import-linter's declarations leave untyped."""
    return tuple(str(item) for item in value) if isinstance(value, list) else ()


class OnlyContract(Contract):
    """The modules of `source` import directly only themselves, the standard library and `may_import`.

    A list of what is forbidden has a gap for everything that nobody thought of; this has none. Modules that
    match `except_for` are left out: a narrower contract of their own speaks for them.
    """

    source = fields.StringField()
    may_import = fields.ListField(subfield=fields.StringField())
    except_for = fields.ListField(subfield=fields.StringField(), required=False)

    def check(self, graph: ImportGraph, verbose: bool) -> ContractCheck:
        del verbose
        source = str(self.source)
        if source not in graph.modules:
            raise ValueError(f"no module named {source}: is the contract's `source` spelt right?")
        left_out = _strings(self.except_for)
        allowed = (f"{source}.**", *_strings(self.may_import))
        broken = [
            (importer, imported, self._line(graph, importer, imported))
            for importer in sorted({source, *graph.find_descendants(source)})
            if not is_allowed(importer, left_out)
            for imported in sorted(graph.find_modules_directly_imported_by(importer))
            if imported not in sys.stdlib_module_names and not is_allowed(imported, allowed)
        ]
        return ContractCheck(kept=not broken, metadata={"broken": broken})

    def render_broken_contract(self, check: ContractCheck) -> None:
        for importer, imported, line in check.metadata["broken"]:
            output.print_error(f"- {importer}:{line} imports {imported}", bold=False)
        output.print_error(
            f"  {self.source} may import only: {', '.join(_strings(self.may_import)) or 'itself'}", bold=False
        )

    @staticmethod
    def _line(graph: ImportGraph, importer: str, imported: str) -> int:
        details = graph.get_import_details(importer=importer, imported=imported)
        return min((detail["line_number"] for detail in details), default=0)
