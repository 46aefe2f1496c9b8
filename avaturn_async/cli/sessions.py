"""``avaturn sessions``."""

from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from ..errors import ConfigurationError
from .connecting import Access, connected
from .options import BaseUrl, Json, Token, examples
from .output import Output
from .running import DONE, run

if TYPE_CHECKING:
    from ..models import SessionConfig

__all__ = ["add_to"]

sessions = typer.Typer(no_args_is_help=True, rich_markup_mode=None)


class Opens(StrEnum):
    """What a session opens."""

    ANY = "create_or_edit_existing"
    CREATE = "create"
    EDIT = "edit_existing"


def add_to(app: typer.Typer) -> None:
    """Add the commands to the command line."""
    app.add_typer(sessions, name="sessions", help="Open the Avaturn UI for a user.")


@sessions.callback()
def _group() -> None:
    """Keep ``create`` a command of its own though it is the only one."""


@sessions.command(
    epilog=examples(
        "avaturn sessions create cm3x8s9d2",
        "avaturn sessions create cm3x8s9d2 --type edit_existing --avatar 0190d1e1-7b2c-7cc0-8b5a-2f0c1b7a9f00",
    )
)
def create(
    user_id: Annotated[str, typer.Argument(metavar="USER")],
    opens: Annotated[Opens, typer.Option("--type", help="What the session opens.")] = Opens.ANY,
    avatar: Annotated[str | None, typer.Option(metavar="ID", help="The avatar that edit_existing opens.")] = None,
    token: Token = None,
    base_url: BaseUrl = None,
    json: Json = False,
) -> None:
    """Create a session and print its link.

    The link is short-lived, and gives access to the user's avatars.
    """
    run(_create(Access(token, base_url), Output(as_json=json), user_id, opens, avatar))


async def _create(access: Access, output: Output, user_id: str, opens: Opens, avatar: str | None) -> int:
    config = _config(opens, avatar)
    async with connected(access) as client:
        session = await client.sessions.create(user_id, config)
    output.result({"session_id": str(session.id), "url": session.url}, session.url)
    return DONE


def _config(opens: Opens, avatar: str | None) -> "SessionConfig | None":
    from ..models import CreateSessionConfig, EditExistingSessionConfig, as_uuid

    if (avatar is None) == (opens is Opens.EDIT):
        raise ConfigurationError("--type edit_existing and --avatar ID go together")
    if avatar is not None:
        return EditExistingSessionConfig(avatar_id=as_uuid(avatar, "--avatar"))
    return CreateSessionConfig() if opens is Opens.CREATE else None
