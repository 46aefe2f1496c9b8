"""The pages of the documentation, and the examples in them."""

from __future__ import annotations

import re
from pathlib import Path

__all__ = ["COMMANDS", "DOCS", "EXAMPLES", "PAGES", "PHOTO_FILES", "README", "SECRET"]

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
README = (ROOT / "README.md").read_text()
PAGES = {path.relative_to(DOCS / "pages").as_posix(): path.read_text() for path in sorted(DOCS.rglob("pages/**/*.md"))}

#: Each example by its name: ``<!-- example: NAME -->`` and a block of Python or console commands.
EXAMPLES: dict[str, str] = {
    name: code
    for text in PAGES.values()
    for name, code in re.findall(r"<!-- example: (\w+) -->\n```(?:python|console)\n(.*?)```", text, re.DOTALL)
}

#: The two commands that set up everything, in a clone of the repository.
COMMANDS = ['python -m pip install ".[cli]" && avaturn demo', "python -m pip install nox && nox"]

SECRET = "a-path-secret-for-the-examples"
#: The files that examples read their photos from, and the views that they show.
PHOTO_FILES = {"frontal.jpg": "frontal", "left.jpg": "side-1", "right.jpg": "side-2"}
