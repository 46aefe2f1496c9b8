"""Hooks with which PyInstaller collects data: the contract, the tables of models, and the pages of the commands."""

from __future__ import annotations

__all__ = ["hook_folders"]


def hook_folders() -> list[str]:
    """Return the folder of the hooks; PyInstaller finds this function by its entry point ``pyinstaller40``."""
    return list(__path__)
