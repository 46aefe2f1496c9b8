"""The command ``avaturn``: one module for each command.

Modules import what is slow to load inside their functions, so that ``avaturn --help`` and shell completion are quick.
Help texts are arguments, not docstrings, so that they survive ``python -OO``.
"""
