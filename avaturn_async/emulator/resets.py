"""The breaking of connections."""

import socket
import struct

from aiohttp import web

__all__ = ["broken", "reset"]

NO_LINGER = struct.pack("ii", 1, 0)


def reset(request: web.Request) -> None:
    """Break the connection of a request so that the other side gets a RST, not an end of stream."""
    transport = request.transport
    if transport is None:
        return
    transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, NO_LINGER)
    transport.abort()


def broken(request: web.Request) -> bool:
    """Say whether the connection of a request is no more."""
    return request.transport is None or request.transport.is_closing()
