"""Tell a DELETE that found nothing from one that had been carried out before its answer was lost."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..errors import NotFoundError
from .failures import NEVER_SENT, Failure
from .responses import Answer

if TYPE_CHECKING:
    import aiohttp

__all__ = ["Doubt"]


class Doubt:
    """Whether an earlier sending of one DELETE may have been carried out.

    It is a client middleware, too: aiohttp silently sends an idempotent request again when a kept-alive connection
    dies under it, and a middleware sees both.
    """

    __slots__ = ("raised",)

    def __init__(self) -> None:
        self.raised = False

    async def __call__(
        self, request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType
    ) -> aiohttp.ClientResponse:
        """Send, and remember where the answer was lost."""
        try:
            return await handler(request)
        except NEVER_SENT:
            raise
        except Exception:
            self.raised = True
            raise

    def settle(self, failure: Failure) -> Answer | Failure:
        """Take a 404 for success where there is doubt; otherwise remember whether there is any now."""
        if self.raised and isinstance(failure.error, NotFoundError):
            return Answer(200, b"", {})
        self.raised = self.raised or failure.doubtful
        return failure
