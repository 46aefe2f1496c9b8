"""The jobs of an emulator: scans, exports and renders from start to event, and editor sessions."""

from collections.abc import Mapping
from functools import partial
from typing import Any, Literal
from uuid import UUID, uuid4

import attrs

from .links import Links
from .scheduler import Scheduler
from .settings import Settings
from .state import Avatar, Job, State, export_of, render_of, scan_of
from .validation import ApiError, check, contract, require, schema
from .webhooks import WebhookSender

__all__ = ["Jobs"]

CUSTOMIZATION = schema("ExternalAvatarCustomization-Input")
EVENTS = {
    name: operations["post"]["requestBody"]["content"]["application/json"]["schema"]
    for name, operations in sorted(contract()["webhooks"].items())
}


@attrs.frozen
class Jobs:
    """Run jobs: end each when its time is up, and send its event."""

    state: State
    settings: Settings
    links: Links
    scheduler: Scheduler
    webhooks: WebhookSender

    async def start(self, job: Job) -> None:
        """Start a job. With the fault `webhook_early`, end it and deliver its event before returning."""
        if job.kind == "scan":
            job.avatar.status = "processing"
        timing = self.settings.timing
        failed = self.settings.happens("job_failures")
        seconds = getattr(timing, job.kind) + self.settings.up_to("jitter", timing.jitter)
        if self.settings.happens("webhook_early"):
            job.finish(failed=failed)
            await self.webhooks.deliver(job.event(self.links))
        else:
            self.scheduler.after(seconds, partial(self._finish, job, failed=failed))

    def _finish(self, job: Job, *, failed: bool) -> None:
        if not job.avatar.deleted:
            job.finish(failed=failed)
            self.webhooks.dispatch(job.event(self.links))

    async def complete_session(self, session_id: UUID, customization: dict[str, Any] | None) -> UUID:
        """End a session as its user would in the editor: create its avatar, or customize the one it edits."""
        session = self.state.session(session_id)
        catalogue = self.state.catalogue
        wanted = catalogue.outfit() if customization is None else require(customization, CUSTOMIZATION, ("body",))
        if session.config["type"] == "edit_existing":
            avatar = self.state.scanned(UUID(session.config["avatar_id"]))
            self.state.customize(avatar, wanted)
            return avatar.id
        catalogue.check(wanted)  # a refused customization must leave no avatar behind
        avatar = self.state.create_avatar(session.user_id, session.id)
        self.state.customize(avatar, wanted)
        await self.start(scan_of(avatar))
        return avatar.id

    def event(
        self,
        event: str | Mapping[str, Any],
        avatar_id: UUID | None,
        render_id: UUID | None,
        status: Literal["ready", "failed"],
    ) -> dict[str, Any]:
        """Return a payload if it is valid, or make the one of this name, without changing any state."""
        if not isinstance(event, str):
            if not isinstance(event.get("event"), str):
                raise ValueError('an event needs a name: {"event": "export.ready", ...}')
            if issues := [*check(event, EVENTS.get(event["event"], {}), ())]:
                raise ValueError(f"not a valid {event['event']}: {'.'.join(map(str, issues[0].loc))}: {issues[0].msg}")
            return dict(event)
        if event not in EVENTS:
            raise ValueError(f"{event!r} is not one of {', '.join(EVENTS)}: send it as a dict")
        if render_id is not None and event != "render.ready":
            raise ValueError(f"render_id belongs to render.ready, not to {event}")
        if status not in ("ready", "failed"):
            raise ValueError(f"status must be 'ready' or 'failed', not {status!r}")
        avatar_id = avatar_id or uuid4()
        try:
            avatar = self.state.avatar(avatar_id)
        except ApiError:  # Avaturn also sends events of avatars that its receiver does not know
            avatar = Avatar(avatar_id, "UNKNOWN")
        if event == "render.ready":
            job = render_of(avatar, render_id or uuid4())
        else:
            job = scan_of(avatar) if event == "avatar.ready" else export_of(avatar)
        job.status = status
        return job.event(self.links)
