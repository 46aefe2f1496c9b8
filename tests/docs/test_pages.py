"""The pages of the documentation: navigation, links, and what they say about the package's names."""

from __future__ import annotations

import inspect
import re
from importlib.metadata import metadata
from urllib.parse import urlsplit

import attrs
import pytest
import typer

import avaturn_async
from avaturn_async import AvaturnClient, PollPolicy, RateLimit, RetryPolicy, Timeouts
from avaturn_async.cli import app as command_line

from ..test_layout import ORDER
from .kit import COMMANDS, DOCS, EXAMPLES, PAGES

NAV = re.findall(r"^ +- (?:(.+): )?([\w/-]+\.md)$", (DOCS / "mkdocs.yml").read_text(), re.MULTILINE)
FENCE = re.compile(r"```.*?```|`[^`\n]*`", re.DOTALL)
LINK = re.compile(r"\]\(([^)\s]+)\)")
#: Other sites that pages link to.
HOSTS = {"avaturn.me", "gltf-transform.dev", "semver.org"}


def test_every_page_is_in_the_navigation() -> None:
    """No page is missing, and none is listed twice."""
    assert sorted(PAGES) == sorted(path for _, path in NAV)


def test_every_page_has_the_title_of_its_entry() -> None:
    """A page begins with one heading, which is its name in the navigation."""
    assert {path: title for title, path in NAV} == {
        path: re.match(r"# (.+)\n", text)[1]  # type: ignore[index]
        for path, text in PAGES.items()
    }


def test_readme_lists_every_page() -> None:
    """All but the reference, which is made from docstrings."""
    readme = (DOCS.parent / "README.md").read_text()
    assert [] == [page for page in PAGES if f"`docs/pages/{page}`" not in readme and not page.startswith("reference/")]


def test_llms_txt_lists_every_page() -> None:
    """A language model finds each page by its title."""
    listed = re.findall(r"^- \[(.+)\]\(([\w/-]+)\.html\)", (DOCS / "pages/llms.txt").read_text(), re.MULTILINE)
    assert sorted((title, f"{path}.md") for title, path in listed) == sorted(NAV)


def anchors(text: str) -> set[str]:
    """Return the anchors of a page's headings."""
    headings = re.findall(r"^#+ (.+)$", FENCE.sub(lambda found: found[0].strip("`"), text), re.MULTILINE)
    return {re.sub(r"[\s-]+", "-", re.sub(r"[^\w\s-]", "", heading).strip().lower()) for heading in headings}


@pytest.mark.parametrize("page", sorted(PAGES))
def test_links_lead_somewhere(page: str) -> None:
    """A relative link leads to a page, and to a heading of it, or to a file; other hosts are known."""
    folder = (DOCS / "pages" / page).parent
    for target in LINK.findall(FENCE.sub("", PAGES[page])):
        url = urlsplit(target)
        if url.scheme:
            assert ("https", True) == (url.scheme, url.hostname in HOSTS), target
            continue
        path = folder / url.path if url.path else DOCS / "pages" / page
        assert path.is_file(), target
        if url.fragment:
            assert url.fragment in anchors(path.read_text()), target


@pytest.mark.parametrize("page", sorted(PAGES))
def test_code_is_run(page: str) -> None:
    """Each block of Python or console commands is an example or one of the two commands; files it includes exist."""
    for before, code in re.findall(r"^(.*)\n```(?:python|console)\n(.*?)```", PAGES[page], re.DOTALL | re.MULTILINE):
        marker = before.rpartition("\n")[2]
        assert code.strip() in COMMANDS or re.fullmatch(r"<!-- example: \w+ -->", marker), code
    for included in re.findall(r'--8<-- "(.+)"', PAGES[page]):
        assert (DOCS / "examples" / included).is_file()


def test_every_engine_is_shown() -> None:
    """The page on many machines has the program of each engine."""
    shown = re.findall(r'--8<-- "(.+)"', PAGES["machines.md"])
    assert sorted(shown) == sorted(
        str(each.relative_to(DOCS / "examples")) for each in DOCS.glob("examples/engines/*.py")
    )


def test_names_of_examples_are_unique() -> None:
    """No page overrides an example of another."""
    assert len(EXAMPLES) == sum(text.count("<!-- example: ") for text in PAGES.values() if "NAME -->" not in text)


@pytest.mark.parametrize("page", sorted(PAGES))
def test_files_that_are_named_exist(page: str) -> None:
    """Paths in the repository are right."""
    named = re.findall(r"`((?:docs|tests|benchmarks|avaturn_async)/[\w./-]+)`", PAGES[page])
    assert [] == [name for name in named if name != "docs/site" and not (DOCS.parent / name).exists()]


def test_configuration_lists_every_option() -> None:
    """The tables have each option of the client and its settings, with its default."""
    page = PAGES["configuration.md"]
    client = inspect.signature(AvaturnClient).parameters.values()
    rows = dict(re.findall(r"^\| `([^`]+)` \| (.+?) \|", page, re.MULTILINE))
    assert {parameter.name for parameter in client} <= set(rows)
    for parameter in client:
        if parameter.name in ("wait_timeout", "max_connections", "confirm_webhooks", "allow_http"):
            assert f"{parameter.default}" == rows[parameter.name].strip("`")
    for kind in (Timeouts, RetryPolicy, PollPolicy):
        for field in attrs.fields(kind):
            shown = rows[f"{kind.__name__}({field.name}=)"].strip("`")
            assert field.default == (None if shown == "None" else float(shown))
    assert f"RateLimit({', '.join(field.name for field in attrs.fields(RateLimit))})" in rows


def test_reference_has_every_public_name() -> None:
    """Each name that the package exports is documented."""
    reference = "\n".join(text for page, text in PAGES.items() if page.startswith("reference/"))
    whole = {"avaturn_async.errors", "avaturn_async.models"}
    missing = {
        name
        for name in avaturn_async.__all__
        if f"avaturn_async.{name}\n" not in reference
        and getattr(getattr(avaturn_async, name), "__module__", "") not in whole
    }
    assert {"__version__", "Event", "SessionConfig"} == missing  # two are unions of documented classes


@pytest.mark.parametrize("page", sorted(PAGES))
def test_commands_that_pages_name_exist(page: str) -> None:
    """The command line has each command, and its page names all of them."""
    commands = typer.main.get_command(command_line).list_commands(None)  # type: ignore[attr-defined]
    named = set(re.findall(r"`avaturn ([a-z]+)", PAGES[page]))
    assert named <= set(commands)
    if page == "cli.md":
        rows = re.findall(r"^\| (.+?) \|", PAGES[page], re.MULTILINE)
        assert sorted(commands) == sorted(re.findall(r"`avaturn ([a-z]+)`", "\n".join(rows)))  # each has one row


def test_contributing_says_where_things_are() -> None:
    """The order of imports is that of the test which enforces it, and each command has a module of its name."""
    order = re.search(r"folders before its own: (.+?)\.", PAGES["contributing.md"], re.DOTALL)
    assert order is not None
    parts = [each for each in ORDER if not each.startswith("_") and each not in ("emulator", "cli", "testing")]
    assert parts == re.findall(r"`(\w+)`", order[1])
    for command in typer.main.get_command(command_line).list_commands(None):  # type: ignore[attr-defined]
        assert (DOCS.parent / f"avaturn_async/cli/{command}.py").is_file()


def test_extras_that_pages_name_exist() -> None:
    """The package has each extra that a page tells its reader to install."""
    extras = set(metadata("avaturn-async").get_all("Provides-Extra") or ())
    text = "\n".join(PAGES.values())
    named = {each for group in re.findall(r"(?:avaturn-async|\.)\[([\w,]+)\]", text) for each in group.split(",")}
    named |= set(re.findall(r"extra `(\w+)`", text))
    assert named <= extras
