"""A multipart/form-data body (RFC 7578) that is read and sent in small pieces."""

from __future__ import annotations

import asyncio
import secrets
import socket
import struct
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from threading import Lock
from typing import BinaryIO, TypeVar

import attrs
from aiohttp.abc import AbstractStreamWriter
from aiohttp.payload import Payload

from .tasks import settled

__all__ = ["FormField", "MultipartForm", "UploadBody", "read_error", "without_frames"]

E = TypeVar("E", bound=BaseException)

#: Bytes read and sent at once: more would take memory, less would take more handovers from threads.
_PIECE = 256 * 2**10
#: On, for 0 seconds: closing a socket resets the connection.
_LINGER = struct.pack("ii", 1, 0)


def read_error(error: Exception, label: str) -> Exception:
    """Return an OSError, ValueError or TypeError that says what could not be read; other errors get a note."""
    if isinstance(error, OSError) and error.errno is not None:
        return OSError(error.errno, f"{label} can't be read: {error.strerror}", error.filename)
    if isinstance(error, ValueError | TypeError):
        return (ValueError if isinstance(error, ValueError) else TypeError)(f"{label} can't be read: {error}")
    error.add_note(f"raised while {label} was read")
    return error


def without_frames(error: E) -> E:
    """Take the traceback and the context from an error: their frames hold photos."""
    error.__context__ = error.__cause__ = None
    return error.with_traceback(None)


@attrs.frozen
class FormField:
    """A field of a form, whose content is a file that is read from its beginning for each attempt.

    Attributes:
        name: of the field.
        content: the file.
        size: bytes of its content.
        filename: sent with it.
        content_type: sent with it.
        label: what errors call it.
    """

    name: str
    content: BinaryIO = attrs.field(repr=False)
    size: int
    filename: str | None = None
    content_type: str | None = None
    label: str = attrs.field(default=attrs.Factory(lambda self: self.name, takes_self=True))
    _lock: Lock = attrs.field(factory=Lock, init=False, repr=False, eq=False)

    @property
    def reading(self) -> bool:
        """Whether a thread reads the content now."""
        return self._lock.locked()

    def read(self, position: int, size: int) -> bytes:
        """Return up to `size` bytes of the content.

        Raises:
            OSError: it can't be read, or became shorter.
        """
        try:
            with self._lock:  # a thread of an earlier attempt may still be reading
                self.content.seek(position)
                piece = self.content.read(min(size, self.size - position))
        except Exception as error:  # noqa: BLE001 - a disk may fail in any way
            raise read_error(error, self.label) from None
        if not piece:
            raise OSError(f"{self.label} became shorter while it was sent")
        return piece


class MultipartForm:
    """Fields, and the boundary between them."""

    def __init__(self, fields: Sequence[FormField]) -> None:
        boundary = secrets.token_hex(16)
        self.content_type: str = f"multipart/form-data; boundary={boundary}"
        self._parts = [(_head(field, boundary), field) for field in fields]
        self._end = f"--{boundary}--\r\n".encode()
        self.size: int = sum(len(head) + field.size + 2 for head, field in self._parts) + len(self._end)

    def pieces(self) -> Iterator[bytes]:
        """Yield the encoded form; reading it blocks, and raises as `FormField.read`."""
        piece = b""
        for head, field in self._parts:
            piece += head
            position = 0
            while position < field.size:
                if len(piece) >= _PIECE:
                    yield piece
                    piece = b""
                content = field.read(position, _PIECE - len(piece))
                position += len(content)
                piece += content  # no copy if nothing is before it
            piece += b"\r\n"
        yield piece + self._end


def _head(field: FormField, boundary: str) -> bytes:
    filename = f'; filename="{field.filename}"' if field.filename else ""
    content_type = f"Content-Type: {field.content_type}\r\n" if field.content_type else ""
    disposition = f'Content-Disposition: form-data; name="{field.name}"{filename}'
    return f"--{boundary}\r\n{disposition}\r\n{content_type}\r\n".encode()


class UploadBody(Payload):
    """One sending of a form: an aiohttp payload that counts the bytes sent and can be ended at once.

    Attributes:
        complete: whether all bytes may have been sent.
        error: what reading the form or `on_progress` raised.
    """

    def __init__(self, form: MultipartForm, on_progress: Callable[[int], None]) -> None:
        super().__init__(None, content_type=form.content_type)
        self.complete: bool = False
        self.error: BaseException | None = None
        self._length = form.size
        self._pieces = form.pieces()
        self._on_progress = on_progress
        self._connection: asyncio.WriteTransport | None = None
        self._task: asyncio.Task[None] | None = None

    @property
    def size(self) -> int:
        """Content-Length of the body."""
        return self._length

    def decode(self, encoding: str = "utf-8", errors: str = "strict") -> str:
        """Not supported: aiohttp uses it only to print and to compare bodies."""
        raise TypeError("the body of an upload can only be streamed")

    async def write(self, writer: AbstractStreamWriter) -> None:
        """Send the form; called by aiohttp in a task of its own."""
        self._connection, self._task = writer.transport, asyncio.current_task()
        sent = 0
        try:
            while piece := await self._next(sent):
                sent += len(piece)
                self.complete = sent == self._length  # before it is known that the last one was sent
                await writer.write(piece)
        finally:
            piece = b""  # a kept exception must not keep the photos alive

    async def _next(self, sent: int) -> bytes:
        try:
            self._on_progress(sent)
        except BaseException as error:  # noqa: BLE001 - raised by the user's own function
            self.error = error
        else:
            if self.complete:
                return b""
            try:
                return await asyncio.get_running_loop().run_in_executor(None, next, self._pieces, b"")
            except Exception as error:  # noqa: BLE001 - as `FormField.read`
                self.error = without_frames(error)
        raise ConnectionAbortedError("the upload was ended")  # another one: aiohttp's frames hold the last piece

    def abort(self) -> None:
        """Close the connection and drop what it has not sent yet."""
        if self._connection is None:
            return
        if (connected := self._connection.get_extra_info("socket")) is not None:
            with suppress(OSError, ValueError):  # closed already
                # The kernel holds some MiB, too, and would go on sending them.
                connected.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER)
        self._connection.abort()

    async def aclose(self) -> None:
        """Let go of the form, and end the task that sends it if it has not ended."""
        self._pieces = iter(())  # aiohttp's own references may keep this object for a while
        if self._task is not None and not self._task.done():
            self.abort()
            self._task.cancel()
            await settled(self._task)
