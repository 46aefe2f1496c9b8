"""The layout of the package: which folder may import from which."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import avaturn_async

PACKAGE = Path(avaturn_async.__file__).parent
#: A module imports from what stands before it, or from its own folder.
ORDER = [
    *("_version", "redact", "models", "errors", "config", "observe", "http", "glb", "webhooks", "downloads"),
    *("pending", "batch", "resources", "client", "__init__", "emulator", "cli", "testing", "__main__"),
]
MODULES = {str(path.relative_to(PACKAGE)): path for path in sorted(PACKAGE.rglob("*.py"))}


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
                for alias in node.names:
                    path = "/".join([*base[1:], alias.name])
                    found |= {path + ".py", path + "/__init__.py", path.rpartition("/")[0] + ".py"} & MODULES.keys()
                found |= {"/".join([*base[1:], "__init__.py"])} & MODULES.keys()
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
