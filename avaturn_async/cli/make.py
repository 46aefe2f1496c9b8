"""``avaturn make``: from photos to a model, for one person or for each row of a table."""

import json
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any
from uuid import NAMESPACE_OID, UUID, uuid5

import avaturn_async as sdk

from .avatars import read_customization
from .batch import Planned, Tally, read_table, run_plan, show_plan
from .command import (
    DONE,
    Access,
    Hooks,
    Overwrite,
    Reports,
    Timeout,
    argument,
    command,
    connected,
    failure,
    flag,
    in_thread,
    option,
)
from .export import Model, prepare_folder
from .output import Output, size_of
from .reports import ReportWriter

if TYPE_CHECKING:
    from ..batch.journal import Journal
    from ..batch.table import FileNames, Row, Table

__all__ = ["Maker"]

HELP = """Make an avatar from three photos and download its model.

With --from, make one for each row of a table: CSV, or JSON lines, with the columns frontal, side_1, side_2 and
body_type (male or female), and optionally user_id and telephoto (true). Paths are relative to the table's folder. Users
are created for rows without a user_id. Avatars get Avaturn's default customization, or that of --customization.

--from needs --journal, which records each stage: the same command continues where an earlier one ended, and makes no
avatar twice. If a process ended during an upload and the API does not report that the photos arrived, they are not
uploaded again, and the command says what to do.
"""

PHOTOS = ("frontal", "side_1", "side_2")


@command(
    HELP,
    "avaturn make frontal.jpg left.jpg right.jpg --body-type female --out me.glb",
    "avaturn make --from people.csv --journal people.db --out models",
    "avaturn make --from people.csv --journal people.db --name '{name}.glb'",
)
async def _make(
    access: Access,
    hooks: Hooks,
    reports: Reports,
    output: Output,
    photos: Annotated[list[Path] | None, argument("FRONTAL SIDE1 SIDE2", "Three JPEGs of one person.")] = None,
    body_type: Annotated[str | None, option("male|female", "Also of rows that do not say.")] = None,
    user_id: Annotated[str | None, option("USER", "Its user, not a new one.", "--user")] = None,
    source: Annotated[Path | None, option("FILE", "A table of people; - is stdin.", "--from", allow_dash=True)] = None,
    name: Annotated[
        str | None, option("TEMPLATE", "How files are named.", show_default="the user_id or name of the frontal photo")
    ] = None,
    out: Annotated[
        Path | None, option("PATH", "The file or, with --from, the folder.", show_default="avatar.glb, or .")
    ] = None,
    overwrite: Overwrite = False,
    journal: Annotated[Path | None, option("FILE", "A SQLite file; see above.")] = None,
    customization: Annotated[Path | None, option("FILE", "JSON to customize the avatars with.")] = None,
    dry_run: Annotated[bool, flag("--dry-run", "Check the table and photos; make nothing.")] = False,
    timeout: Timeout = 900,
    max_pending: Annotated[int, option("N", "Avatars made at once.", min=1)] = 32,
) -> int:
    from ..batch.journal import Journal

    wanted = await in_thread(read_customization, customization)
    if source is None:
        if not photos or len(photos) != len(PHOTOS) or body_type is None:
            raise ValueError("give three photos and --body-type, or a table by --from")
        if name or journal or dry_run or any(reports):
            raise ValueError("--name, --journal, --dry-run and files of reports are for a table: give one by --from")
        files, file = sdk.Photos(*photos, body_type=body_type), out or Path("avatar.glb")  # type: ignore[arg-type]
        async with connected(access, hooks) as client:
            await _make_one(client, files, user_id, wanted, file, overwrite, timeout, output)
        return DONE
    if photos or user_id is not None:
        raise ValueError("--from takes the photos and users of a table: leave out the photos and --user")
    table = await in_thread(read_table, source, "frontal")
    table.require(*PHOTOS, *(() if body_type else ("body_type",)), where=str(source))
    plan = partial(_people, table, source.parent if str(source) != "-" else Path(), body_type, name)
    if dry_run:
        return show_plan([await _with_photos(each) for each in plan()], output)
    if journal is None:
        raise ValueError("--from needs --journal FILE: it records what was made, so that nothing is made twice")
    folder = out or Path()
    async with connected(access, hooks) as client:
        await in_thread(prepare_folder, folder)
        maker = Maker(client, wanted, Journal(journal, client.base_url, kind="people"))
        options: dict[str, Any] = {"journal": maker.journal, "download_to": folder, "timeout": timeout}
        writer = await in_thread(ReportWriter, reports, [*dict.fromkeys((*table.columns, "user_id"))])
        # A batch whose items are rows instead of avatars.
        start = partial(sdk.ExportBatch, maker, max_pending=max_pending, **options)
        tally = Tally(output, folder)
        return await run_plan(start, plan, tally, writer, under_way=maker.people, describe=maker.describe)


def _people(table: "Table", folder: Path, body_type: str | None, template: str | None) -> Iterator[Planned]:
    """Yield the rows of a table with their photos."""
    from ..batch.table import FileNames

    names = FileNames(template or "{person}.glb", (*table.columns, "person"), folder=True)
    lines: dict[UUID, int] = {}
    for row in table:
        try:
            yield _person(row, folder, body_type, names, lines)
        except ValueError as error:
            yield Planned(row, "", "", error)


def _person(row: "Row", folder: Path, body_type: str | None, names: "FileNames", lines: dict[UUID, int]) -> Planned:
    """Read a row; raise ValueError if it can't be used, or has the person of an earlier one in `lines`."""
    import attrs

    files, user_id = [row.cell(column) for column in PHOTOS], row.cells.get("user_id", "")
    kind: Any = row.cells.get("body_type") or body_type or row.cell("body_type")
    telephoto = row.cells.get("telephoto", "").lower() in ("true", "yes", "1")
    try:
        photos = sdk.Photos(*[folder / file for file in files], body_type=kind, telephoto=telephoto)
    except ValueError as error:
        raise ValueError(f"line {row.line}: {str(error).removeprefix('Photos.')}") from None
    key = uuid5(NAMESPACE_OID, "\0".join([user_id, *files]))
    if (earlier := lines.setdefault(key, row.line)) != row.line:
        raise ValueError(f"line {row.line}: it has the same user and photos as line {earlier}")
    named = attrs.evolve(row, cells={"person": user_id or Path(files[0]).stem, **row.cells})
    return Planned(row, key, names.claim(named), photos=photos)


async def _with_photos(planned: Planned) -> Planned:
    """Open the photos of a row; return the row, with an error if they can't be read."""
    if planned.photos is None:
        return planned
    try:
        async with planned.photos.open():
            return planned
    except (OSError, ValueError) as error:
        return planned._replace(error=ValueError(f"line {planned.row.line}: {failure(error)}"))


async def _make_one(
    client: "sdk.AvaturnClient",
    photos: "sdk.Photos",
    user_id: str | None,
    customization: "sdk.ExternalAvatarCustomization",
    file: Path,
    overwrite: bool,
    timeout: float,
    output: Output,
) -> None:
    """Make one avatar, and show each stage as a line or a bar."""
    await in_thread(prepare_folder, file.parent, [file], overwrite=overwrite)
    async with photos.open():  # fails before anything is created
        pass
    with output.progress() as progress:
        advance = progress.stage("photos", 1)
        user_id = user_id or (await client.users.create()).id
        scan = await client.avatars.create_from_photos(user_id, photos, customization=customization)
        advance()
        advance = progress.stage("scan and export", 1)
        avatar = await scan.wait(timeout=timeout)
        export = await client.exports.create_and_wait(avatar.id, timeout=timeout)
        advance()
        advance = progress.stage("download", 1)
        saved = await export.download(file, overwrite=overwrite, checksum=True)
        advance()
    record = {"user_id": user_id, **Model(export, saved).record()}
    output.result(record, f"{saved.path} ({size_of(saved.size)}): avatar {export.avatar_id} of user {user_id}")


class Maker:
    """Creates avatars from photos, in stages that are recorded in a journal; the exporter of a batch.

    The record of a row has its user, its avatar, the upload url, and a step. The steps ``creating`` and ``uploading``
    are recorded before the request is sent, as its outcome is unknown if the process ends before the response.
    """

    def __init__(
        self, client: "sdk.AvaturnClient", customization: "sdk.ExternalAvatarCustomization", journal: "Journal"
    ) -> None:
        self.client = client
        self.customization = customization
        self.journal = journal
        self.people: dict[UUID, Planned] = {}

    async def read(self, key: Any) -> dict[str, str]:
        """Return the record of a row, empty if there is none."""
        entry = await self.journal.read(uuid5(key, "stage"))
        return {} if entry is None or entry.resume_token is None else json.loads(entry.resume_token)

    async def describe(self, key: UUID, outcome: "sdk.BatchOutcome") -> "tuple[dict[str, str], sdk.BatchOutcome]":
        """Return the user of a row, and its outcome with the id of its avatar."""
        import attrs

        made = await self.read(key)
        return {"user_id": made.get("user_id", "")}, attrs.evolve(outcome, avatar_id=made.get("avatar_id", ""))

    async def record(self, key: UUID, **stage: str) -> dict[str, str]:
        """Replace the record of a row.

        Raises:
            ConfigurationError: the journal could not be written, so a later run would repeat what follows.
        """
        await self.journal.write(uuid5(key, "stage"), "pending", 1, resume_token=json.dumps(stage))
        if await self.read(key) != stage:
            raise sdk.ConfigurationError("the journal could not be written, so this person is left as it is")
        return stage

    def resume(self, token: str) -> Any:
        """Raise ValueError, so that the batch calls `create`, which continues from the record."""
        raise ValueError(token)

    async def create(self, avatar_id: Any) -> Any:
        """Create the avatar of a row and upload its photos, as far as earlier runs have not; `avatar_id` is its key."""
        key: UUID = avatar_id
        person, stage = self.people[key], await self.read(key)
        if "avatar_id" in stage and stage["step"] != "ready":
            status = await self._status(stage)
            if status is None or status is sdk.ScanStatus.FAILED:
                stage = await self.record(key, user_id=stage["user_id"])  # deleted or failed
            elif status is not sdk.ScanStatus.PENDING:
                stage = await self.record(key, **{**stage, "step": "scanning"})
        if stage.get("step") == "uploading":
            raise _unknown(stage)
        if stage.get("step") not in ("scanning", "ready"):
            assert person.photos is not None  # noqa: S101 - rows without photos failed earlier
            async with person.photos.open():  # fails before anything is created
                pass
            if "avatar_id" not in stage:
                stage = await self._create_avatar(key, person, stage)
            stage = await self._upload(key, person.photos, stage)
        return _Making(self, key, stage)

    async def _create_avatar(self, key: UUID, person: Planned, stage: dict[str, str]) -> dict[str, str]:
        user_id = stage.get("user_id") or person.row.cells.get("user_id") or (await self.client.users.create()).id
        if stage.get("step") == "creating":
            for avatar in await self.client.avatars.list(user_id, include_not_ready=True):
                if avatar.status is sdk.ScanStatus.PENDING:
                    raise sdk.OutcomeUnknownError(
                        f"an earlier run was interrupted while it created an avatar of user {user_id}, and avatar "
                        f"{avatar.id} awaits its photos: delete that, and the same command creates another one"
                    )
        await self.record(key, user_id=user_id, step="creating")
        try:
            made = await self.client.avatars.create(user_id)
        except sdk.AvaturnError as error:
            if _was_refused(error):
                await self.record(key, user_id=user_id)
            raise
        found = {"user_id": user_id, "avatar_id": str(made.avatar_id), "upload_url": str(made.upload_url)}
        return await self.record(key, step="created", **found)

    async def _upload(self, key: UUID, photos: "sdk.Photos", stage: dict[str, str]) -> dict[str, str]:
        await self.record(key, **{**stage, "step": "uploading"})
        try:
            await self.client.avatars.upload(stage["upload_url"], photos)
        except sdk.JobFailedError:
            await self.record(key, user_id=stage["user_id"])
            raise
        except sdk.AvaturnError as error:
            if await self._status(stage) in (None, sdk.ScanStatus.PENDING):
                if _was_refused(error):
                    await self.record(key, **stage)
                    raise
                raise _unknown(stage) from None
        except (OSError, ValueError):  # from reading a photo
            await self.record(key, **stage)
            raise
        return await self.record(key, **{**stage, "step": "scanning"})

    async def _status(self, stage: dict[str, str]) -> Any:
        """Return the status of a scan, or None if the avatar does not exist."""
        avatars = await self.client.avatars.list(stage["user_id"], include_not_ready=True)
        return next((avatar.status for avatar in avatars if str(avatar.id) == stage["avatar_id"]), None)


class _Making:
    """The pending object that a batch awaits: a scan, then an export."""

    resume_token = "{}"  # noqa: S105 - the record of the row is used instead

    def __init__(self, maker: Maker, key: UUID, stage: dict[str, str]) -> None:
        self.avatar_id = key
        self._maker = maker
        self._stage = stage

    def done(self) -> bool:
        return False

    async def wait(self, *, timeout: Any) -> "sdk.Export":
        maker, stage, client = self._maker, self._stage, self._maker.client
        if stage["step"] != "ready":
            scan = client.avatars.pending(stage["user_id"], stage["avatar_id"], customization=maker.customization)
            try:
                await scan.wait(timeout=timeout)
            except sdk.JobFailedError:
                await maker.record(self.avatar_id, user_id=stage["user_id"])
                raise
            await maker.record(self.avatar_id, **{**stage, "step": "ready"})
        return await client.exports.create_and_wait(stage["avatar_id"], timeout=timeout)


def _was_refused(error: Exception) -> bool:
    """Whether an error means that the request had no effect."""
    return isinstance(error, sdk.ConnectError) or (isinstance(error, sdk.APIStatusError) and error.status_code < 500)


def _unknown(stage: dict[str, str]) -> Exception:
    avatar, user = stage["avatar_id"], stage["user_id"]
    return sdk.OutcomeUnknownError(
        f"whether the photos of avatar {avatar} arrived is unknown, and they are not uploaded again: run the same "
        f"command later or, to make another avatar instead, first: avaturn avatars delete {user} {avatar}"
    )
