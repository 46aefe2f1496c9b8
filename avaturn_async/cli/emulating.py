"""Run the emulator for ``avaturn emulator``."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import attrs

from ..emulator import Emulator, Faults, Timing

if TYPE_CHECKING:
    from collections.abc import Mapping

    from .output import Output

__all__ = ["emulate"]


async def emulate(options: Mapping[str, Any], output: Output) -> int:
    """Run an emulator by the command's options until Ctrl-C."""
    async with _emulator(options) as avaturn:
        output.emit({"url": avaturn.url, "token": avaturn.token, "webhook_url": avaturn.webhook_url})
        output.line(f"The emulator is at {avaturn.url}, with the token {avaturn.token}, until Ctrl-C.\n")
        output.line(f"export AVATURN_BASE_URL={avaturn.url}\nexport AVATURN_API_TOKEN={avaturn.token}")
        return await asyncio.Event().wait()


def _emulator(options: Mapping[str, Any]) -> Emulator:
    timing = {name: options[f"{name}_seconds"] for name in ("scan", "export", "render")}
    faults = {field.name: options[field.name] for field in attrs.fields(Faults) if field.name in options}
    straight = ("host", "port", "token", "webhook_url", "seed", "model_size")
    return Emulator(
        **{name: options[name] for name in straight},
        body=options["body"].value,
        timing=Timing(**timing, url_ttl=options["url_seconds"]),
        faults=Faults(**faults),
    )
