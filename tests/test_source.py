"""What the source itself must hold to, read as text and as syntax trees."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

SOURCE = Path(__file__).parent.parent / "src" / "hubel"
MODULES = sorted(SOURCE.rglob("*.py"))


def imported(module: Path) -> Iterator[str]:
    """Every name that a module imports, with its package."""
    for node in ast.walk(ast.parse(module.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def test_the_compiled_module_is_known_to_one_file() -> None:
    knowing = [module for module in MODULES if "hubel._native" in imported(module)]
    assert knowing == [SOURCE / "engine" / "native.py"]


@pytest.mark.parametrize("module", MODULES, ids=lambda path: str(path.relative_to(SOURCE)))
def test_nothing_that_is_read_can_run_as_code(module: Path) -> None:
    names = set(imported(module))
    assert not {name for name in names if name.split(".")[0] in {"pickle", "marshal", "shelve"}}
    dangerous = r"allow_pickle=True|\beval\(|\bexec\(|yaml\.load\(|shell=True|torch\.load\("
    assert not re.search(dangerous, module.read_text("utf-8"))


@pytest.mark.parametrize("module", MODULES, ids=lambda path: str(path.relative_to(SOURCE)))
def test_public_names_are_declared_and_sorted(module: Path) -> None:
    tree = ast.parse(module.read_text("utf-8"))
    assert ast.get_docstring(tree), "a module says in a sentence what it is for"
    declared = [
        ast.literal_eval(node.value)
        for node in tree.body
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__"
    ]
    if module.name in {"__init__.py", "__main__.py"} and not declared:
        return
    (names,) = declared
    order = sorted(names, key=lambda name: (not name.isupper(), not name[0].isupper(), name))
    assert names == order
