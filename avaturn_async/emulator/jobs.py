"""The running of scans, exports and renders."""

from functools import partial

from .agenda import Agenda
from .controls import Controls
from .faults import Dice
from .hooks import Hooks
from .links import Links
from .records import Job

__all__ = ["Jobs"]


class Jobs:
    """End jobs when their time has come, and tell the webhook url."""

    def __init__(self, controls: Controls, dice: Dice, agenda: Agenda, hooks: Hooks, links: Links) -> None:
        self._controls = controls
        self._dice = dice
        self._agenda = agenda
        self._hooks = hooks
        self._links = links

    async def start(self, job: Job) -> None:
        """Start a job; return when it runs, or, by the fault `webhook_early`, when its event has been received."""
        timing, faults = self._controls.timing, self._controls.faults
        failed = self._dice.happens("job_failures", faults.job_failures)
        delay = getattr(timing, job.kind) + self._dice.upto("jitter", timing.jitter)
        if self._dice.happens("webhook_early", faults.webhook_early):
            job.finish(failed=failed)
            await self._hooks.deliver(job.event(self._links))
        else:
            self._agenda.after(delay, partial(self._finish, job, failed))

    def _finish(self, job: Job, failed: bool) -> None:
        if not job.avatar.deleted:
            job.finish(failed=failed)
            self._hooks.dispatch(job.event(self._links))
