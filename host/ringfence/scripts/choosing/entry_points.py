"""Whether a script has an entry point: something that is to give a verdict, and is called by its runner. Pure.

Threat: a script defines what looks at a system, and nothing calls it; it ends with 0, and the system is called well.
Mechanism: what may be an entry point is taken for one, also where no runner calls it (`module.exports` in a program of
Node.js), for then a missing verdict is a fault that is seen. Not covered: whether what is called looks at anything.
"""

from __future__ import annotations

import ast
import re
from pathlib import PurePosixPath

from ringfence.scripts.choosing.choice import Choice, env_program
from ringfence.scripts.request import ScriptKind

_EXPORT = re.compile(
    r"(?:^|[;}\s])export\s+default\b|(?:^|[;}\s])export\s*\{[^}]*\bas\s+(?:default\b|[\"']default)"
    r"|(?:^|[;}\s])export\s+(?:async\s+)?(?:function\b\s*\*?|const|let|var)\s*(?:main|check|run|handler)\b"
    r"|\bmodule\s*(?:\.\s*exports\b|\[\s*[\"']exports)|\bexports\s*\.\s*(?:default|main|check|run|handler)\b"
)
_STARTS_ITSELF = re.compile(r"\brequire\.main\b")
"""By which a program of Node.js asks whether it is one."""


def has_entry_point(choice: Choice) -> bool:
    """Whether what was chosen to be run is to give a verdict."""
    source = (choice.source or b"").decode(errors="replace")
    match _language(choice):
        case "python":
            return _has_main(source)
        case "node":
            return _EXPORT.search(source) is not None and not _STARTS_ITSELF.search(source)
    return False


def _language(choice: Choice) -> str:
    if choice.kind is ScriptKind.PYTHON:
        return "python"
    if choice.kind is ScriptKind.ESM:
        return "node"
    if not choice.words:
        return ""
    program = PurePosixPath(env_program(choice.words) or choice.words[0]).name
    return re.sub(r"(?<=^python)[\d.]+$|(?<=^node)js$", "", program)


def _has_main(source: str) -> bool:
    """Whether a Python script has a `main` that is called for its verdict, or by nobody."""
    try:
        module = ast.parse(source)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    found = _bound(module)
    if found is None:
        return False
    if isinstance(found, ast.FunctionDef | ast.AsyncFunctionDef):
        names = [one.arg for one in (*found.args.posonlyargs, *found.args.args, *found.args.kwonlyargs)]
        if names[:1] == ["context"]:
            return True
    inside = set(map(id, ast.walk(found)))
    uses = (node for node in ast.walk(module) if id(node) not in inside)
    return not any(isinstance(node, ast.Name) and node.id == "main" and _is_read(node) for node in uses)


def _is_read(name: ast.Name) -> bool:
    return isinstance(name.ctx, ast.Load)


def _bound(module: ast.Module) -> ast.AST | None:
    """What gives a module its `main`, at any place outside of functions and classes; the last, if there are several."""
    found: ast.AST | None = None
    level: list[ast.stmt] = list(module.body)
    while level:
        below: list[ast.stmt] = []
        for one in level:
            match one:
                case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
                    found = one if one.name == "main" else found
                case ast.Assign(targets=targets) if any(map(_is_main, targets)):
                    found = one
                case ast.AnnAssign(target=target, value=ast.expr()) if _is_main(target):
                    found = one
                case ast.Import(names=names) | ast.ImportFrom(names=names):
                    found = one if any((each.asname or each.name) == "main" for each in names) else found
                case _:
                    below += [
                        each for each in ast.walk(one) if isinstance(each, ast.stmt) and each is not one
                    ]
        level = below
    return found


def _is_main(target: ast.expr) -> bool:
    return isinstance(target, ast.Name) and target.id == "main"
