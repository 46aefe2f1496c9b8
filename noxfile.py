"""Sessions that check the project; plain ``nox`` runs the tests on this Python, the linter and the type checker."""

from __future__ import annotations

import os
from pathlib import Path

import nox

nox.needs_version = ">=2025.2.9"
nox.options.sessions = ["tests", "lint", "types"]
nox.options.default_venv_backend = "uv|virtualenv"  # the first of them that is installed
nox.options.error_on_missing_interpreters = False

PYTHONS = ["3.11", "3.12", "3.13"]
EXTRAS = ".[cli,emulator,glb,obstore,otel,postgres,redis,speedups,testing]"
NPM_PACKAGES = [
    *("gltf-validator@2.0.0-dev.3.10", "@stoplight/prism-cli@5.16.0"),
    *("three@0.180.0", "@met4citizen/talkinghead@1.7.0", "playwright-core@1.65.1"),
    *("@gltf-transform/cli@4.5.1", "gltfpack@1.3.0", "ktx-parse@1.1.0"),
    "@google/model-viewer@4.4.0",
]
#: Processes that share the tests: tests that wait leave a core idle, so there are more of them than cores.
PARALLEL = ["-n", str(min(8, 1 + (os.cpu_count() or 1))), "--dist", "worksteal"]
#: The tests that run on every Python.
QUICK = "not slow and not npm and not chaos and not engines"
GROUPS = nox.project.load_toml("pyproject.toml")

# The tests start hundreds of processes: what each of them imports is compiled once, also where containers forbid that.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)


def install(session: nox.Session, group: str, *options: str) -> None:
    """Install the package for editing, and a dependency group; this also works where pip has no --group."""
    session.install(*options, "-e", EXTRAS, *nox.project.dependency_groups(GROUPS, group))


@nox.session
def tests(session: nox.Session) -> None:
    """Test on this Python, and measure branch coverage."""
    install(session, "test")
    session.run("coverage", "erase")
    session.run("coverage", "run", "-m", "pytest", *PARALLEL, *session.posargs)
    session.run("coverage", "combine", "--quiet")
    session.run("coverage", "report")


@nox.session(python=PYTHONS)
def tests_all(session: nox.Session) -> None:
    """Test on every supported Python that is installed, without the slow tests."""
    install(session, "test")
    session.run("pytest", *PARALLEL, "-m", QUICK, *session.posargs)


@nox.session(venv_backend="uv")
def tests_lowest(session: nox.Session) -> None:
    """Test with the oldest version of each dependency that pyproject.toml allows, and with current test tools."""
    tools = nox.project.dependency_groups(GROUPS, "test")
    session.install(*tools)
    # OpenTelemetry's packages fit their own release alone, and typer 0.20 uses what click has deprecated since.
    telemetry = [each for each in tools if each.startswith("opentelemetry-")]
    session.install("--upgrade", "--resolution", "lowest-direct", "-e", EXTRAS, *telemetry, "click==8.2.1")
    session.run("pytest", *PARALLEL, "-m", QUICK, *session.posargs)


@nox.session
def lint(session: nox.Session) -> None:
    """Check style and format."""
    session.install(*nox.project.dependency_groups(GROUPS, "lint"))
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")


@nox.session
def types(session: nox.Session) -> None:
    """Check the types of the package, and those that its users see."""
    install(session, "types")
    session.run("mypy")
    session.run("pyright", "--verifytypes", "avaturn_async", "--ignoreexternal")


@nox.session
def docs(session: nox.Session) -> None:
    """Build the documentation into docs/site; a warning is an error."""
    session.install(*nox.project.dependency_groups(GROUPS, "docs"))
    session.chdir("docs")  # paths of the examples that pages include start here
    output = session.run("zensical", "build", "--clean", "--strict", *session.posargs, silent=True)
    session.log(output)
    if "griffe:" in str(output):
        session.error("docstrings have the faults listed above")


@nox.session
def contract_npm(session: nox.Session) -> None:
    """Check against independent tools: the glTF validator, three.js and TalkingHead in Chromium, and Prism.

    Needs npm, Chromium, and glTF sample files: Debian's assimp-testmodels, or a folder in AVATURN_GLTF_SAMPLES.
    """
    install(session, "test")
    folder = Path(session.create_tmp())
    # Peers are ignored, as model-viewer and TalkingHead want different versions of three.
    options = ["--ignore-scripts", "--legacy-peer-deps", "--no-audit", "--no-fund", "--prefix", str(folder)]
    session.run("npm", "install", *options, *NPM_PACKAGES, external=True, silent=True)
    environment = {"AVATURN_NODE_MODULES": str(folder / "node_modules"), "AVATURN_REQUIRE_NPM": "1"}
    session.run("pytest", "-m", "npm", *session.posargs, env=environment)


@nox.session
def chaos(session: nox.Session) -> None:
    """Run the long tests under faults: in a short form, or with AVATURN_CHAOS=full in full."""
    install(session, "test")
    environment = {"AVATURN_CHAOS": os.environ.get("AVATURN_CHAOS", "short")}
    parallel = [] if environment["AVATURN_CHAOS"] == "full" else ["-n", "2", "--dist", "worksteal"]
    session.run("pytest", "-m", "chaos", *parallel, *session.posargs, env=environment)


@nox.session
def engines(session: nox.Session) -> None:
    """Run the examples of job engines while workers are killed: in a short form, or with AVATURN_CHAOS=full in full."""
    install(session, "engines")
    environment = {"AVATURN_CHAOS": os.environ.get("AVATURN_CHAOS", "short")}
    parallel = [] if environment["AVATURN_CHAOS"] == "full" else ["-n", "3"]
    session.run("pytest", "-m", "engines", "tests/engines", *parallel, *session.posargs, env=environment)


@nox.session
def bench(session: nox.Session) -> None:
    """Measure the SDK beside what a user would write or install, and write the table to RESULTS.md."""
    install(session, "bench")
    session.run("python", "-m", "benchmarks", "--write", *session.posargs)
