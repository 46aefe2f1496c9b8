"""The layout of the package: which folder may import from which."""

from __future__ import annotations

import ast
import importlib
from pathlib import Path

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


def test_a_module_imports_only_from_folders_before_its_own() -> None:
    """The emulator imports nothing of the client; only the command line and the test kit use the emulator."""
    found = {}
    for name in MODULES:
        allowed = ORDER[: ORDER.index(_part(name)) + 1]
        if _part(name) == "emulator":
            allowed = ["emulator"]
        elif _part(name) not in ("cli", "testing", "__main__"):
            allowed = [part for part in allowed if part != "emulator"]
        found[name] = {each for each in _imported_modules(name) if _part(each) not in allowed}
    assert {} == {name: others for name, others in found.items() if others}


def test_no_module_imports_in_a_circle() -> None:
    """Each module can be read after those that it imports, also within one folder."""
    wanted = {name: _imported_modules(name) for name in MODULES}
    while free := {name for name, needs in wanted.items() if not needs & wanted.keys()}:
        wanted = {name: needs for name, needs in wanted.items() if name not in free}
    assert {} == wanted


#: Names with an underscore that the standard library documents for everybody's use.
DOCUMENTED = {"_exit", "_asdict", "_fields", "_make", "_replace"}


def _is_private(name: str) -> bool:
    return name.startswith("_") and not name.endswith("_") and name not in DOCUMENTED


def _names_of_others(tree: ast.Module) -> set[str]:
    """Return what a module imports from other libraries."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.asname or alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and not node.level:
            found |= {alias.asname or alias.name for alias in node.names}
    return found


def _names_of_ours(tree: ast.Module) -> set[str]:
    """Return the functions, classes, variables and attributes that a module defines."""
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            found.add(node.name)
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            found.add(node.attr)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            found.add(node.id)
    return found


def _private_uses(tree: ast.Module, ours: set[str]) -> set[str]:
    """Return the private names of other libraries that a module imports or reads, also by getattr."""
    others, found = _names_of_others(tree), set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and not node.level:
            parts = [*(node.module or "").split("."), *(alias.name for alias in node.names)]
            found |= {f"{node.module}: {part}" for part in parts if _is_private(part)}
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names if any(map(_is_private, alias.name.split(".")))}
        elif isinstance(node, ast.Attribute) and _is_private(node.attr):
            if (isinstance(node.value, ast.Name) and node.value.id in others) or node.attr not in ours:
                found.add(ast.unparse(node))
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in ("getattr", "setattr"):
            names = [arg.value for arg in node.args[1:2] if isinstance(arg, ast.Constant)]
            found |= {each for each in names if _is_private(str(each)) and each not in ours}
    return found


def test_no_private_name_of_another_library_is_used() -> None:
    """Neither imported nor read, from an import or from any object."""
    trees = {name: ast.parse(path.read_text()) for name, path in MODULES.items()}
    ours = {each for tree in trees.values() for each in _names_of_ours(tree)}
    found = {name: _private_uses(tree, ours) for name, tree in trees.items()}
    assert {} == {name: uses for name, uses in found.items() if uses}
    bad = "import aiohttp\nfrom asyncio import _get_running_loop\naiohttp.web._x\nrequest._read_bytes\ngetattr(a, '_b')"
    assert 4 == len(_private_uses(ast.parse(bad), ours))


def test_no_private_name_of_another_library_is_overridden() -> None:
    """A subclass of a foreign class defines none of its private names."""
    made = {"_abc_impl", "_is_protocol", "_is_runtime_protocol"}  # by typing and abc, in every subclass
    found = set()
    for name in MODULES:
        module = importlib.import_module("avaturn_async." + name.removesuffix(".py").replace("/", "."))
        for cls in [each for each in vars(module).values() if isinstance(each, type)]:
            if cls.__module__ == module.__name__:
                others = [base for base in cls.__mro__ if not base.__module__.startswith("avaturn_async")]
                inherited = {each for base in others for each in vars(base) if _is_private(each)} - made
                found |= {f"{cls.__name__}.{each}" for each in vars(cls) if each in inherited}
    assert set() == found


def test_modules_and_functions_are_small() -> None:
    """A module has at most 450 lines, a function 60 without its docstring."""
    found = {}
    for name, path in MODULES.items():
        text = path.read_text()
        if text.count("\n") > 450 and name != "models.py":
            found[name] = text.count("\n")
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                docstring = (ast.get_docstring(node, clean=False) or "").count("\n")
                lines = (node.end_lineno or node.lineno) - node.lineno + 1 - docstring
                if lines > 60:
                    found[f"{name}: {node.name}"] = lines
    assert {} == found
