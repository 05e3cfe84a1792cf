"""The house: arrows between rooms run downward, no files in a circle, nothing too long to read."""

import ast
from graphlib import TopologicalSorter

from support import ROOT

SOURCE = ROOT / "src"
FILES = sorted((SOURCE / "ctma").rglob("*.py"))
FLOORS = [
    "compat", "cli", "demo", "benchmark", "adaptation", "training", "survey", "evaluation",
    "review", "scene", "figures", "inference", "exports", "checkpoints", "extending", "engines",
    "data", "models",
]  # fmt: skip
"""From the top; below them is the ground, which holds nothing of other rooms."""

LONGEST_MODULE, LONGEST_FUNCTION = 370, 50
"""Lines; of a function those of its body, without signature and docstring."""


def module_of(path):
    parts = path.relative_to(SOURCE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_of(path): path for path in FILES}


def code_lines(function):
    """Lines of a function's body, without the docstring."""
    body = function.body[1:] if ast.get_docstring(function) else function.body
    return function.end_lineno - body[0].lineno + 1 if body else 0


def imports(path):
    """Modules of ctma that a file imports, anywhere in it."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("ctma"):
            for name in node.names:
                whole = f"{node.module}.{name.name}"
                yield whole if whole in MODULES else node.module
        elif isinstance(node, ast.Import):
            yield from (name.name for name in node.names if name.name.startswith("ctma"))


def floor(module):
    """The room's place from the top; the ground is the last."""
    room = module.split(".")[1]
    return FLOORS.index(room) if room in FLOORS else len(FLOORS)


def test_files_import_only_from_their_own_room_and_those_below():
    inside = {name: path for name, path in MODULES.items() if name not in ("ctma", "ctma.__main__")}
    assert len(inside) > 70
    upward = {
        name: [to for to in imports(path) if floor(to) < floor(name)]
        for name, path in inside.items()
    }
    assert {name: to for name, to in upward.items() if to} == {}


def test_no_files_import_each_other_in_a_circle():
    graph = {name: {*imports(path)} - {name} for name, path in MODULES.items() if name != "ctma"}
    assert len([*TopologicalSorter(graph).static_order()]) >= len(graph)


def test_nothing_is_too_long_to_read():
    modules = {path: len(path.read_text().splitlines()) for path in FILES}
    assert {path for path, lines in modules.items() if lines > LONGEST_MODULE} == set()
    functions = {
        f"{path.name}: {node.name}": code_lines(node)
        for path in FILES
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.FunctionDef)
    }
    assert {name for name, lines in functions.items() if lines > LONGEST_FUNCTION} == set()
