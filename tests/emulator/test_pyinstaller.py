"""The emulator in a program that PyInstaller has frozen."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = """
import asyncio
from avaturn_async.emulator import Emulator
from avaturn_async.emulator.glb.model import build_glb

async def main():
    async with Emulator() as avaturn:
        print(avaturn.url, build_glb(models="small")[:4])

asyncio.run(main())
"""

#: Optional imports of what the emulator imports: they are installed beside it here, and take long to analyse.
UNUSED = [
    *("asyncpg", "gunicorn", "h2", "hypothesis", "mypy", "numpy", "obstore", "opentelemetry", "pydantic", "pytest"),
    *("redis", "rich", "setuptools", "tkinter", "typer", "uvloop"),
]


@pytest.mark.chaos
@pytest.mark.timeout(400)
def test_a_frozen_program_runs_the_emulator(tmp_path: Path) -> None:
    """The contract and the tables of models are collected by the package's own hook."""
    pytest.importorskip("PyInstaller")
    (tmp_path / "program.py").write_text(PROGRAM)
    build = [sys.executable, "-m", "PyInstaller", "--log-level", "ERROR", "--onedir", "program.py"]
    for name in UNUSED:
        build += ["--exclude-module", name]
    subprocess.run(build, cwd=tmp_path, check=True, timeout=300)
    frozen = subprocess.run([tmp_path / "dist/program/program"], capture_output=True, text=True, check=True, timeout=60)
    assert frozen.stdout.startswith("http://127.0.0.1:")
    assert frozen.stdout.endswith(" b'glTF'\n")
