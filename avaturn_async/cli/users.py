"""``avaturn users``."""

from typing import Annotated

import typer

from .command import UserId, command, group
from .connect import Access, connected
from .output import Output
from .runner import DONE

__all__ = ["add_to"]


def add_to(app: typer.Typer) -> None:
    """Add the commands to the command line."""
    users = group(app, "users", help="Create and delete users.")
    command(users, help="Create an anonymous user and print the id.", examples=("avaturn users create",))(create)
    command(
        users,
        help="Delete a user with all photos, avatars and cached exports.",
        examples=("avaturn users delete cm3x8s9d2 --missing-ok",),
    )(delete)


async def create(access: Access, output: Output) -> int:
    """Create a user."""
    async with connected(access) as client:
        user = await client.users.create()
    output.result({"user_id": user.id}, user.id)
    return DONE


async def delete(
    access: Access,
    output: Output,
    user_id: UserId,
    missing_ok: Annotated[bool, typer.Option("--missing-ok", help="Succeed if the user does not exist.")] = False,
) -> int:
    """Delete a user."""
    from ..errors import NotFoundError

    deleted = True
    async with connected(access) as client:
        try:
            await client.users.delete(user_id)
        except NotFoundError:
            if not missing_ok:
                raise
            deleted = False
    told = f"deleted user {user_id}" if deleted else f"there is no user {user_id}"
    output.result({"user_id": user_id, "deleted": deleted}, told)
    return DONE
