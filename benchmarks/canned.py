"""A server of canned answers, for programs that measure a client: as little work as a server can do."""

from __future__ import annotations

import asyncio
import json
from uuid import UUID

from .kit import until_stdin_ends

AVATAR = UUID("0f8fad5b-d9cb-469f-a165-70867728950e")
ANSWERS = {
    b"/api/v1/users/new": {"id": "user-0123456789"},
    b"/api/v1/exports/new": {
        "status": "ready",
        "url": f"https://assets.example.com/exports/{AVATAR}.glb?X-Amz-Expires=900&X-Amz-Signature=0123456789abcdef",
    },
}


def response(body: bytes) -> bytes:
    """Return an answer as FastAPI behind a proxy would send it."""
    head = (
        "HTTP/1.1 200 OK\r\nDate: Tue, 24 Nov 2026 10:00:00 GMT\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\nConnection: keep-alive\r\nX-Request-Id: 5f2b9c\r\n\r\n"
    )
    return head.encode() + body


RESPONSES = {path: response(json.dumps(answer).encode()) for path, answer in ANSWERS.items()}
RESPONSES[b"/pending/api/v1/exports/new"] = response(json.dumps({"status": "pending", "url": None}).encode())


class Canned(asyncio.Protocol):
    """Answers each request that has come whole; none has a body."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self._transport = transport
        self._rest = b""

    def data_received(self, data: bytes) -> None:
        """Answer what has come."""
        *requests, self._rest = (self._rest + data).split(b"\r\n\r\n")
        for request in requests:
            path = request.split(b" ", 2)[1].partition(b"?")[0]
            self._transport.write(RESPONSES[path])  # type: ignore[attr-defined]


async def serve() -> None:
    """Serve until the parent hangs up."""
    server = await asyncio.get_running_loop().create_server(Canned, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await until_stdin_ends()


if __name__ == "__main__":
    asyncio.run(serve())
