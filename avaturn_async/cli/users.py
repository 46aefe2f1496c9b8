"""``avaturn users``: create and delete users."""

import typer

from .command import Access, MissingOk, UserId, command, connected, deleted, group
from .output import Output

users: typer.Typer = group("users", "Create and delete users.")


@command("Create an anonymous user and print the id.", "avaturn users create", name="create", among=users)
async def _create(access: Access, output: Output) -> None:
    async with connected(access) as client:
        user = await client.users.create()
    output.result({"user_id": user.id}, user.id)


@command(
    "Delete a user with all photos, avatars and cached exports.",
    "avaturn users delete cm3x8s9d2 --missing-ok",
    name="delete",
    among=users,
)
async def _delete(access: Access, output: Output, user_id: UserId, missing_ok: MissingOk = False) -> None:
    async with connected(access) as client:
        await deleted("user", user_id, client.users.delete(user_id), missing_ok, output)
