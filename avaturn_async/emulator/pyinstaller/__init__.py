"""A hook with which PyInstaller collects the data of the emulator: the contract, and the tables of its models."""

from __future__ import annotations

__all__ = ["hook_folders"]


def hook_folders() -> list[str]:
    """Return the folder of the hook; PyInstaller finds this function by its entry point ``pyinstaller40``."""
    return list(__path__)
