"""The state of an emulator: catalogue, users, avatars, sessions and jobs; and its temporary urls."""

import base64
import hashlib
import hmac
import secrets
import time
import uuid
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any, Literal
from urllib.parse import urlencode
from uuid import UUID

import attrs

from .settings import Settings
from .validation import SLOTS, ApiError, Issue, invalid

__all__ = ["Asset", "Avatar", "Catalogue", "File", "Job", "Links", "Session", "State", "export_of", "render_of"]
__all__ += ["scan_of"]

NAMESPACE = uuid.uuid5(uuid.NAMESPACE_URL, "https://avaturn.me/emulator/assets")
MAX_SESSIONS = 10_000


@attrs.frozen
class Asset:
    """An asset that avatars wear in one slot, unless it is retired."""

    id: UUID
    slot: str
    name: str
    retired: bool = False


def _default_assets() -> tuple[Asset, ...]:
    names = {
        "clothing": ("hoodie", "suit", "summer_dress"),
        "hair_and_headwear": ("bob", "curls", "beanie"),
        "eyewear": ("aviators", "round_glasses"),
        "footwear": ("sneakers", "boots"),
    }
    return tuple(
        Asset(uuid.uuid5(NAMESPACE, f"{slot}/{name}"), slot, name, retired=name == "last_season")
        for slot in SLOTS
        for name in (*names[slot], "last_season")
    )


@attrs.frozen
class Catalogue:
    """The assets and bodies that a customization may name. The default assets have the same ids in every emulator."""

    assets: tuple[Asset, ...] = attrs.field(factory=_default_assets, converter=tuple, repr=False)
    bodies: tuple[str, ...] = attrs.field(default=("body_0", "body_1", "body_2", "body_3"), converter=tuple, repr=False)

    def available(self, slot: str) -> tuple[Asset, ...]:
        """Return the assets of a slot that are not retired."""
        return tuple(asset for asset in self.assets if asset.slot == slot and not asset.retired)

    def retired(self, slot: str) -> tuple[Asset, ...]:
        """Return the retired assets of a slot."""
        return tuple(asset for asset in self.assets if asset.slot == slot and asset.retired)

    def outfit(self) -> dict[str, Any]:
        """Return the editor's initial customization: the first asset of each slot, and the first body."""
        first = {slot: next(iter(self.available(slot)), None) for slot in SLOTS}
        worn = {slot: asset and {"id": str(asset.id)} for slot, asset in first.items()}
        return {"assets": worn, "body": self.bodies[0]}

    def names(self, customization: Mapping[str, Any]) -> dict[str, str]:
        """Return the name of the worn asset of each slot that is not empty."""
        known = {asset.id: asset.name for asset in self.assets}
        return {slot: known[asset_id] for slot, asset_id in _worn(customization)}

    def check(self, customization: Mapping[str, Any]) -> None:
        """Raise the contract's 409, 410 or 422 if a customization of valid shape names an unusable body or asset."""
        if customization["body"] not in self.bodies:
            wanted = " or ".join(map(repr, self.bodies))
            raise invalid([Issue(("body", "body"), f"Input should be {wanted}", "enum")])
        worn = _worn(customization)
        known = {asset.id: asset for asset in self.assets}
        for slot, asset_id in worn:
            if asset_id in known and known[asset_id].slot != slot:
                raise ApiError(409, f"Asset {asset_id} added to wrong placement - {slot}")
        gone = [str(asset_id) for _, asset_id in worn if asset_id not in known or known[asset_id].retired]
        if gone:
            raise ApiError(410, f"Asset(s) {', '.join(gone)} no longer available")


def _worn(customization: Mapping[str, Any]) -> list[tuple[str, UUID]]:
    return [(slot, UUID(item["id"])) for slot in SLOTS if (item := customization["assets"].get(slot))]


@attrs.frozen
class File:
    """A downloadable file of one version of an avatar; the suffix of its name is its format."""

    avatar_id: UUID
    version: int
    name: str
    scene: str = ""

    @property
    def path(self) -> str:
        """The path of its urls."""
        return f"/files/{self.avatar_id}/{self.version}/{self.name}"


class Links:
    """Issues urls below `base`, and verifies them. They are signed, so no record of them is kept."""

    def __init__(self, settings: Settings) -> None:
        self.base = ""
        self._settings = settings
        self._key = secrets.token_bytes(32)
        self._file_key = secrets.token_bytes(32)

    def file(self, file: File) -> str:
        """Return a new download url that expires after `Timing.url_ttl` seconds."""
        expires = f"{time.time() + self._settings.timing.url_ttl:.6f}"
        signed = {"expires": expires, "nonce": secrets.token_hex(4), "scene": file.scene}
        query = {**signed, "signature": self._sign_file(file.path, signed)}
        return f"{self.base}{file.path}?{urlencode({name: value for name, value in query.items() if value})}"

    def allows(self, path: str, query: Mapping[str, str]) -> bool:
        """Whether a download url is genuine and has not expired."""
        signed = {name: query.get(name, "") for name in ("expires", "nonce", "scene")}
        genuine = _same(query.get("signature", ""), self._sign_file(path, signed))
        return genuine and time.time() < float(signed["expires"])

    def expire(self) -> None:
        """Invalidate all download urls issued so far."""
        self._file_key = secrets.token_bytes(32)

    def secret_url(self, kind: str, owner: UUID) -> str:
        """Return the url of an avatar below /uploads, or of a session below /sessions."""
        return f"{self.base}/{kind}/{owner}/{self._secret(owner)}"

    def owner_of(self, match: Mapping[str, str]) -> UUID:
        """Return the avatar or session whose url was requested; raise a 404 if the url is forged."""
        try:
            owner = UUID(match["owner"])
        except ValueError:
            owner = None
        if owner is None or not _same(match["secret"], self._secret(owner)):
            raise ApiError(404, "Not Found")
        return owner

    def _secret(self, owner: UUID) -> str:
        return hmac.new(self._key, owner.bytes, hashlib.sha256).hexdigest()[:43]

    def _sign_file(self, path: str, query: Mapping[str, str]) -> str:
        text = f"{path}?{urlencode(query)}"
        return hmac.new(self._file_key, text.encode(), hashlib.sha256).hexdigest()


def _same(given: str, right: str) -> bool:
    return hmac.compare_digest(given.encode(errors="replace"), right.encode())


@attrs.define(eq=False)
class Session:
    """A link that opens the editor; `config` is that of the request."""

    id: UUID
    user_id: str
    config: dict[str, Any]


@attrs.define(eq=False)
class Avatar:
    """An avatar and its current version, which has at most one export."""

    id: UUID
    user_id: str
    session_id: UUID | None = None
    status: Literal["pending", "processing", "ready", "failed"] = "pending"
    customization: dict[str, Any] | None = None
    version: int = 0
    outfits: dict[int, Mapping[str, str]] = attrs.field(factory=dict)
    """The names of the worn assets by slot, for each version."""
    export: "Job | None" = None
    deleted: bool = False


@attrs.define(eq=False)
class Job:
    """A scan, export or render of one version of an avatar; `id` is a render's."""

    kind: Literal["scan", "export", "render"]
    avatar: Avatar
    file: File | None = None
    id: UUID | None = None
    status: Literal["pending", "ready", "failed"] = "pending"

    def finish(self, *, failed: bool) -> None:
        """End the job. A scan sets the status of its avatar."""
        self.status = "failed" if failed else "ready"
        if self.kind == "scan":
            self.avatar.status = self.status

    def url(self, links: Links) -> str | None:
        """Return a new url of the model or image; None unless the job is ready."""
        return links.file(self.file) if self.file and self.status == "ready" else None

    def event(self, links: Links) -> dict[str, Any]:
        """Return the webhook payload of a job that has ended."""
        event = {"avatar_id": str(self.avatar.id), "user_id": self.avatar.user_id, "status": self.status}
        if self.kind == "scan":
            session_id = self.avatar.session_id
            return {"event": "avatar.ready", **event, "session_id": session_id and str(session_id)}
        if self.kind == "export":
            return {"event": "export.ready", **event, "export_url": self.url(links)}
        return {"event": "render.ready", **event, "id": str(self.id), "render_url": self.url(links)}


def scan_of(avatar: Avatar) -> Job:
    """Return the scan of an avatar's photos."""
    return Job("scan", avatar)


def export_of(avatar: Avatar) -> Job:
    """Return an export of an avatar's current version."""
    return Job("export", avatar, File(avatar.id, avatar.version, "avatar.glb"))


def render_of(avatar: Avatar, render_id: UUID, scene: str = "common/preview", format: str = "jpg") -> Job:
    """Return a render of an avatar's current version."""
    return Job("render", avatar, File(avatar.id, avatar.version, f"{render_id}.{format}", scene), render_id)


class State:
    """The users, avatars and sessions. Methods raise the `ApiError` that the API answers."""

    def __init__(self, settings: Settings, catalogue: Catalogue) -> None:
        self.catalogue = catalogue
        self._ids = settings.stream("ids")
        self._users: dict[str, dict[UUID, Avatar]] = {}
        self._avatars: dict[UUID, Avatar] = {}
        self._sessions: OrderedDict[UUID, Session] = OrderedDict()

    def create_user(self) -> str:
        """Create a user and return its id."""
        user_id = base64.b32encode(self._ids.randbytes(20)).decode()
        self._users[user_id] = {}
        return user_id

    def delete_user(self, user_id: str) -> None:
        """Delete a user with all avatars."""
        for avatar in self.avatars_of(user_id):
            self._delete(avatar)
        del self._users[user_id]

    def avatars_of(self, user_id: str) -> list[Avatar]:
        """Return a user's avatars, oldest first."""
        return list(self._user(user_id).values())

    def create_avatar(self, user_id: str, session_id: UUID | None = None) -> Avatar:
        """Create an avatar that awaits its photos."""
        avatar = Avatar(self._new_id(), user_id, session_id)
        self._user(user_id)[avatar.id] = self._avatars[avatar.id] = avatar
        return avatar

    def delete_avatar(self, user_id: str, avatar_id: UUID) -> None:
        """Delete one avatar of a user."""
        avatar = self._user(user_id).get(avatar_id)
        if avatar is None:
            raise ApiError(404, f"User {user_id} has no avatar {avatar_id}")
        self._delete(avatar)

    def avatar(self, avatar_id: UUID) -> Avatar:
        """Return an avatar, whatever its status."""
        avatar = self._avatars.get(avatar_id)
        if avatar is None:
            raise ApiError(404, f"Avatar {avatar_id} not found")
        return avatar

    def scanned(self, avatar_id: UUID) -> Avatar:
        """Return an avatar whose scan is ready; raise a 409 for another."""
        avatar = self.avatar(avatar_id)
        if avatar.status != "ready":
            raise ApiError(409, f"Avatar {avatar_id} is not ready, but {avatar.status}")
        return avatar

    def customized(self, avatar_id: UUID) -> Avatar:
        """Return an avatar that has a customization; raise a 409 for another, which the contract leaves undefined."""
        avatar = self.scanned(avatar_id)
        if avatar.customization is None:
            raise ApiError(409, f"Avatar {avatar_id} was made by direct upload and has no customization yet")
        return avatar

    def customize(self, avatar: Avatar, given: dict[str, Any]) -> None:
        """Set a customization of the right shape; a different one makes a new version, which has no export yet."""
        self.catalogue.check(given)
        # Responses have null for omitted fields, and keep unknown ones.
        blank = dict.fromkeys(("age", "metadata", "bone_scale", "skin_tone_correction"))
        customization = {**blank, **given, "assets": {**dict.fromkeys(SLOTS), **given["assets"]}}
        if customization != avatar.customization:
            avatar.customization = customization
            avatar.version += 1
            avatar.outfits[avatar.version] = self.catalogue.names(customization)
            avatar.export = None

    def export(self, avatar_id: UUID, *, restart: bool) -> tuple[Job, bool]:
        """Return the export of an avatar's current version, and whether it is new; `restart` replaces a failed one."""
        avatar = self.customized(avatar_id)
        export = avatar.export
        if export is not None and not (restart and export.status == "failed"):
            return export, False
        avatar.export = export_of(avatar)
        return avatar.export, True

    def create_render(self, avatar_id: UUID, scene: str, format: str) -> Job:
        """Create a rendering task."""
        return render_of(self.customized(avatar_id), self._new_id(), scene, format)

    def create_session(self, user_id: str, config: dict[str, Any]) -> Session:
        """Create a session. Only the latest ten thousand are kept."""
        avatars = self._user(user_id)
        if config["type"] == "edit_existing" and UUID(config["avatar_id"]) not in avatars:
            raise ApiError(404, f"User {user_id} has no avatar {config['avatar_id']}")
        session = Session(self._new_id(), user_id, config)
        self._sessions[session.id] = session
        if len(self._sessions) > MAX_SESSIONS:
            self._sessions.popitem(last=False)
        return session

    def session(self, session_id: UUID) -> Session:
        """Return a session."""
        session = self._sessions.get(session_id)
        if session is None:
            raise ApiError(404, f"Session {session_id} not found")
        return session

    def _user(self, user_id: str) -> dict[UUID, Avatar]:
        avatars = self._users.get(user_id)
        if avatars is None:
            raise ApiError(404, "User not found")
        return avatars

    def _delete(self, avatar: Avatar) -> None:
        avatar.deleted = True
        del self._avatars[avatar.id]
        del self._users[avatar.user_id][avatar.id]

    def _new_id(self) -> UUID:
        return UUID(bytes=self._ids.randbytes(16), version=4)
