"""The layout of the package: which folder may import from which."""

from __future__ import annotations

import ast
import importlib
from pathlib import Path

import pytest

import avaturn_async

PACKAGE = Path(avaturn_async.__file__).parent
#: A module imports from what stands before it, or from its own folder.
ORDER = [
    *("_version", "redact", "models", "errors", "config", "observe", "http", "glb", "webhooks", "downloads"),
    *("pending", "batch", "resources", "client", "__init__", "emulator", "cli", "testing", "__main__"),
]
MODULES = {str(path.relative_to(PACKAGE)): path for path in sorted(PACKAGE.rglob("*.py")) if path.stem.isidentifier()}


def _part(name: str) -> str:
    return name.split("/")[0].removesuffix(".py")


def _imported_modules(name: str) -> set[str]:
    """Return the modules of the package that a module imports, at any level and under any condition."""
    package = ("avaturn_async", *Path(name).parent.parts)
    found = set()
    for node in ast.walk(ast.parse(MODULES[name].read_text())):
        if isinstance(node, ast.ImportFrom):
            base = list(package[: len(package) - node.level + 1]) if node.level else []
            base += (node.module or "").split(".") if node.module else []
            if base[0] == "avaturn_async":
                folder = "/".join(base[1:]) or "."
                for alias in node.names:
                    here = f"{folder}/{alias.name}".removeprefix("./")
                    submodules = {f"{here}.py", f"{here}/__init__.py"} & MODULES.keys()
                    found |= submodules or {f"{folder}.py", f"{folder}/__init__.py"} & MODULES.keys()
    return found - {name, "__init__.py"}


def test_the_top_folder_is_small() -> None:
    """It has at most 20 entries."""
    assert len([path for path in PACKAGE.iterdir() if path.name != "__pycache__"]) <= 20


@pytest.mark.parametrize("name", MODULES)
def test_a_module_imports_only_from_folders_before_its_own(name: str) -> None:
    """The emulator imports nothing of the client; only the command line and the test kit use the emulator."""
    allowed = ORDER[: ORDER.index(_part(name)) + 1]
    if _part(name) == "emulator":
        allowed = ["emulator"]
    elif _part(name) not in ("cli", "testing", "__main__"):
        allowed = [part for part in allowed if part != "emulator"]
    assert set() == {each for each in _imported_modules(name) if _part(each) not in allowed}


def test_no_module_imports_in_a_circle() -> None:
    """Each module can be read after those that it imports, also within one folder."""
    wanted = {name: _imported_modules(name) for name in MODULES}
    while free := {name for name, needs in wanted.items() if not needs & wanted.keys()}:
        wanted = {name: needs for name, needs in wanted.items() if name not in free}
    assert {} == wanted


def _foreign_names(tree: ast.Module) -> set[str]:
    """Return the names that a module imports from other libraries, and what it defines them as."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.asname or alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and not node.level:
            found |= {alias.asname or alias.name for alias in node.names}
    return found


#: Names with an underscore that the standard library documents for everybody's use.
DOCUMENTED = {"_exit", "_asdict", "_fields", "_make", "_replace"}


def _is_private(name: str) -> bool:
    return name.startswith("_") and not name.endswith("_") and name not in DOCUMENTED


@pytest.fixture(scope="module")
def our_names() -> set[str]:
    """Give every function, class and attribute that the package defines."""
    found: set[str] = set()
    for path in MODULES.values():
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                found.add(node.name)
            elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
                found.add(node.attr)
            elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
                found.add(node.id)
    return found


@pytest.mark.parametrize("name", MODULES)
def test_no_private_name_of_another_library_is_used(name: str, our_names: set[str]) -> None:
    """Neither imported nor read, from an import or from any object, be it by getattr."""
    tree = ast.parse(MODULES[name].read_text())
    foreign = _foreign_names(tree)
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and not node.level:
            parts = [*(node.module or "").split("."), *(alias.name for alias in node.names)]
            found |= {f"{node.module}: {part}" for part in parts if _is_private(part)}
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names if any(map(_is_private, alias.name.split(".")))}
        elif isinstance(node, ast.Attribute) and _is_private(node.attr):
            if (isinstance(node.value, ast.Name) and node.value.id in foreign) or node.attr not in our_names:
                found.add(ast.unparse(node))
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in ("getattr", "setattr"):
            names = [arg.value for arg in node.args[1:2] if isinstance(arg, ast.Constant)]
            found |= {each for each in names if _is_private(str(each)) and each not in our_names}
    assert set() == found


@pytest.mark.parametrize("name", MODULES)
def test_no_private_name_of_another_library_is_overridden(name: str) -> None:
    """A subclass of a foreign class defines none of its private names."""
    module = importlib.import_module("avaturn_async." + name.removesuffix(".py").replace("/", "."))
    found = set()
    for cls in vars(module).values():
        if isinstance(cls, type) and cls.__module__ == module.__name__:
            inherited = {
                each for base in cls.__mro__ if not base.__module__.startswith("avaturn_async") for each in vars(base)
            }
            made = {"_abc_impl", "_is_protocol", "_is_runtime_protocol"}  # by typing and abc, in every subclass
            found |= {
                f"{cls.__name__}.{each}" for each in {*vars(cls)} - made if _is_private(each) and each in inherited
            }
    assert set() == found


def _functions(tree: ast.Module) -> dict[str, int]:
    """Return the lines of each function, without its docstring."""
    found = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            docstring = (ast.get_docstring(node, clean=False) or "").count("\n")
            found[node.name] = (node.end_lineno or node.lineno) - node.lineno + 1 - docstring
    return found


@pytest.mark.parametrize("name", MODULES)
def test_modules_and_functions_are_small(name: str) -> None:
    """A module has at most 450 lines, a function 60 without its docstring."""
    text = MODULES[name].read_text()
    assert text.count("\n") <= 450 or name == "models.py"
    assert {} == {function: lines for function, lines in _functions(ast.parse(text)).items() if lines > 60}
