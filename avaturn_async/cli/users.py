"""``avaturn users``."""

from typing import Annotated

import typer

from .connecting import Access, connected
from .options import BaseUrl, Json, Token, examples
from .output import Output
from .running import DONE, run

__all__ = ["add_to"]

users = typer.Typer(no_args_is_help=True, rich_markup_mode=None)


def add_to(app: typer.Typer) -> None:
    """Add the commands to the command line."""
    app.add_typer(users, name="users", help="Create and delete users.")


@users.command(epilog=examples("avaturn users create"))
def create(token: Token = None, base_url: BaseUrl = None, json: Json = False) -> None:
    """Create an anonymous user and print the id."""
    run(_create(Access(token, base_url), Output(as_json=json)))


@users.command(epilog=examples("avaturn users delete cm3x8s9d2 --missing-ok"))
def delete(
    user_id: Annotated[str, typer.Argument(metavar="USER")],
    missing_ok: Annotated[bool, typer.Option("--missing-ok", help="Be content where there is no such user.")] = False,
    token: Token = None,
    base_url: BaseUrl = None,
    json: Json = False,
) -> None:
    """Delete a user with all photos, avatars and cached exports."""
    run(_delete(Access(token, base_url), Output(as_json=json), user_id, missing_ok=missing_ok))


async def _create(access: Access, output: Output) -> int:
    async with connected(access) as client:
        user = await client.users.create()
    output.result({"user_id": user.id}, user.id)
    return DONE


async def _delete(access: Access, output: Output, user_id: str, *, missing_ok: bool) -> int:
    async with connected(access) as client:
        await client.users.delete(user_id, missing_ok=missing_ok)
    output.result({"user_id": user_id, "deleted": True}, f"deleted user {user_id}")
    return DONE
