"""``avaturn sessions``: open the Avaturn editor for a user."""

from typing import Annotated, Literal

import typer

import avaturn_async as sdk

from .command import AVATAR, Access, UserId, command, connected, group, option
from .output import Output

sessions: typer.Typer = group("sessions", "Open the Avaturn editor for a user.")

SessionType = Literal["create_or_edit_existing", "create", "edit_existing"]


@command(
    "Create a session and print its link.\n\nThe link is short-lived, and gives access to the user's avatars.",
    "avaturn sessions create cm3x8s9d2",
    f"avaturn sessions create cm3x8s9d2 --type edit_existing --avatar {AVATAR}",
    name="create",
    among=sessions,
)
async def _create(
    access: Access,
    output: Output,
    user_id: UserId,
    session_type: Annotated[SessionType, typer.Option("--type", help="What the editor opens with.")] = (
        "create_or_edit_existing"
    ),
    avatar: Annotated[str | None, option("ID", "The avatar that edit_existing opens.")] = None,
) -> None:
    from ..models import as_uuid

    if (avatar is None) == (session_type == "edit_existing"):
        raise ValueError("--type edit_existing and --avatar ID go together")
    config: sdk.SessionConfig | None = sdk.CreateSessionConfig() if session_type == "create" else None
    if avatar is not None:
        config = sdk.EditExistingSessionConfig(avatar_id=as_uuid(avatar, "--avatar"))
    async with connected(access) as client:
        session = await client.sessions.create(user_id, config)
    output.result({"session_id": str(session.id), "url": str(session.url)}, session.url)
