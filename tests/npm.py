"""Find what the tests marked `npm` need."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any, NoReturn

import pytest

__all__ = ["chromium", "node", "node_modules", "samples"]


def node_modules(*packages: str) -> Path:
    """Return the folder that has these packages, or skip the test: fail it if AVATURN_REQUIRE_NPM is 1."""
    given = (os.environ.get("AVATURN_NODE_MODULES"), *os.environ.get("NODE_PATH", "").split(os.pathsep), "node_modules")
    folders = [Path(folder) for folder in given if folder and all((Path(folder) / name).is_dir() for name in packages)]
    if not folders or not shutil.which("node"):
        _stop(f"node, and {', '.join(packages)} from npm, are needed")
    return folders[0].resolve()


def chromium() -> str:
    """Return the command of Chromium, or skip the test: fail it if AVATURN_REQUIRE_NPM is 1."""
    names = (os.environ.get("AVATURN_CHROMIUM"), "chromium", "chromium-browser", "google-chrome")
    found = next(filter(None, (shutil.which(name) for name in names if name)), None)
    return found or _stop("Chromium is needed")


def samples() -> Path:
    """Return the folder of glTF sample files, or skip the test: fail it if AVATURN_REQUIRE_NPM is 1.

    AVATURN_GLTF_SAMPLES may be the folder Models of Khronos' glTF-Sample-Assets; Debian has some of its files.
    """
    folder = Path(os.environ.get("AVATURN_GLTF_SAMPLES", "/usr/share/assimp/models/glTF2"))
    return (
        folder if folder.is_dir() else _stop("Debian's package assimp-testmodels, or AVATURN_GLTF_SAMPLES, is needed")
    )


def node(script: Path, *arguments: object, modules: Path, browser: str = "") -> Any:
    """Run a script with node, and return the JSON that it prints."""
    environment = {**os.environ, "AVATURN_NODE_MODULES": str(modules), "AVATURN_CHROMIUM": browser}
    command = ["node", str(script), *map(str, arguments)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=800)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def _stop(reason: str) -> NoReturn:
    (pytest.fail if os.environ.get("AVATURN_REQUIRE_NPM") == "1" else pytest.skip)(reason)
