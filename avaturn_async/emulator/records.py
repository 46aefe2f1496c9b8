"""What the emulator remembers: avatars, sessions, and the jobs that change them."""

from typing import Any, ClassVar, Literal
from uuid import UUID

import attrs

from .links import File, Links

__all__ = ["Avatar", "Export", "Job", "Render", "Scan", "Session"]


@attrs.define(eq=False)
class Session:
    """A link that opens the editor; `config` as it was given."""

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
    export: "Export | None" = None
    deleted: bool = False

    def customize(self, customization: dict[str, Any]) -> None:
        """Set a customization; a different one makes a new version, which has no export yet."""
        if customization != self.customization:
            self.customization = customization
            self.version += 1
            self.export = None


@attrs.define(eq=False)
class Job:
    """Work on one version of an avatar that ends well or not; `kind` names its duration in `Timing`."""

    kind: ClassVar[Literal["scan", "export", "render"]]

    avatar: Avatar
    version: int = attrs.field(init=False)
    status: Literal["pending", "ready", "failed"] = attrs.field(default="pending", init=False)

    def __attrs_post_init__(self) -> None:
        self.version = self.avatar.version

    def finish(self, *, failed: bool) -> None:
        """End the job."""
        self.status = "failed" if failed else "ready"

    def event(self, links: Links) -> dict[str, Any]:
        """Make the webhook's payload for a job that has ended."""
        return {
            "event": f"{self.kind}.ready",
            "avatar_id": str(self.avatar.id),
            "user_id": self.avatar.user_id,
            "status": self.status,
        }


class Scan(Job):
    """The making of an avatar from its photos."""

    kind = "scan"

    def __attrs_post_init__(self) -> None:
        super().__attrs_post_init__()
        self.avatar.status = "processing"

    def finish(self, *, failed: bool) -> None:
        """End the scan, and with it the avatar's wait."""
        super().finish(failed=failed)
        self.avatar.status = "failed" if failed else "ready"

    def event(self, links: Links) -> dict[str, Any]:
        """Make an AvatarReadyWebhook."""
        session_id = self.avatar.session_id and str(self.avatar.session_id)
        return {**super().event(links), "event": "avatar.ready", "session_id": session_id}


class Export(Job):
    """The making of a model."""

    kind = "export"

    def url(self, links: Links) -> str | None:
        """Make a fresh url of the model, if there is one."""
        file = File(self.avatar.id, self.version, "avatar.glb")
        return links.file(file) if self.status == "ready" else None

    def event(self, links: Links) -> dict[str, Any]:
        """Make an ExportReadyWebhook."""
        return {**super().event(links), "export_url": self.url(links)}


@attrs.define(eq=False)
class Render(Job):
    """The making of an image."""

    kind = "render"

    id: UUID
    scene: str
    format: str

    def url(self, links: Links) -> str | None:
        """Make a fresh url of the image, if there is one."""
        file = File(self.avatar.id, self.version, f"{self.id}.{self.format}", self.scene)
        return links.file(file) if self.status == "ready" else None

    def event(self, links: Links) -> dict[str, Any]:
        """Make a RenderReadyWebhook."""
        return {**super().event(links), "id": str(self.id), "render_url": self.url(links)}
