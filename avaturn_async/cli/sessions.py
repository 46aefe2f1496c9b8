"""``avaturn sessions``."""

from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from .command import AVATAR, UserId, command, group
from .connect import Access, connected
from .output import Output
from .runner import DONE

if TYPE_CHECKING:
    from ..models import SessionConfig

__all__ = ["add_to"]


class SessionType(StrEnum):
    """What the editor opens with."""

    ANY = "create_or_edit_existing"
    CREATE = "create"
    EDIT = "edit_existing"


def add_to(app: typer.Typer) -> None:
    """Add the commands to the command line."""
    command(
        group(app, "sessions", help="Open the Avaturn editor for a user."),
        help="Create a session and print its link.\n\nThe link is short-lived, and gives access to the user's avatars.",
        examples=(
            "avaturn sessions create cm3x8s9d2",
            f"avaturn sessions create cm3x8s9d2 --type edit_existing --avatar {AVATAR}",
        ),
    )(create)


async def create(
    access: Access,
    output: Output,
    user_id: UserId,
    session_type: Annotated[SessionType, typer.Option("--type", help="What the editor opens with.")] = SessionType.ANY,
    avatar: Annotated[str | None, typer.Option(metavar="ID", help="The avatar that edit_existing opens.")] = None,
) -> int:
    """Create a session."""
    config = _config(session_type, avatar)
    async with connected(access) as client:
        session = await client.sessions.create(user_id, config)
    output.result({"session_id": str(session.id), "url": str(session.url)}, session.url)
    return DONE


def _config(session_type: SessionType, avatar: str | None) -> "SessionConfig | None":
    from ..models import CreateSessionConfig, EditExistingSessionConfig, as_uuid

    if (avatar is None) == (session_type is SessionType.EDIT):
        raise ValueError("--type edit_existing and --avatar ID go together")
    if avatar is not None:
        return EditExistingSessionConfig(avatar_id=as_uuid(avatar, "--avatar"))
    return CreateSessionConfig() if session_type is SessionType.CREATE else None
