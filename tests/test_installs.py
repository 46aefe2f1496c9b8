"""What the checks install from registries runs no scripts and is pinned."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
NOXFILE, RUN = (ROOT / "noxfile.py").read_text(), (ROOT / ".ci" / "run").read_text()


def test_packages_of_npm() -> None:
    """Each has one version, and their scripts are not run."""
    listed = NOXFILE.partition("NPM_PACKAGES = [")[2].partition("\n]")[0]
    packages = re.findall(r'"([^"]+)"', listed)
    assert len(packages) > 5
    assert [] == [each for each in packages if not re.fullmatch(r"@?[a-z0-9/-]+@[0-9]+\.[0-9a-z.-]+", each)]
    assert NOXFILE.count('"npm", "install"') == NOXFILE.count('"npm"') - NOXFILE.count('"-m", "npm"') == 1
    assert '"npm", "install", *options' in NOXFILE
    assert 'options = ["--ignore-scripts",' in NOXFILE


def test_packages_of_pip() -> None:
    """All but the second command of the README, which a newcomer types, name a version."""
    installs = re.findall(r"pip install (.*?)(?:\|\||&&|$)", RUN, re.MULTILINE)
    names = [word.strip("'\"") for each in installs for word in each.split() if not word.startswith("-")]
    assert ["nox"] == [name for name in names if "==" not in name]
    assert [] == re.findall(r"(?:npm|npx|uvx|pipx) .*", RUN.replace("command -v npm", ""))
