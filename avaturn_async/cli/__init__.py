"""The command ``avaturn``, a small module for each of its commands.

Modules import what is slow to load inside their functions, so that ``avaturn --help`` and shell completion are quick.
"""
