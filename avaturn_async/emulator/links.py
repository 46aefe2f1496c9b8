"""Temporary urls: signed, so that nothing needs to be remembered of those given out."""

import hashlib
import hmac
import secrets
import time
from collections.abc import Mapping
from urllib.parse import urlencode
from uuid import UUID

import attrs

from .controls import Controls

__all__ = ["File", "Links"]


@attrs.frozen
class File:
    """Something to download, of one version of an avatar; its name ends as its format does."""

    avatar_id: UUID
    version: int
    name: str
    scene: str = ""

    @property
    def path(self) -> str:
        """The path of its urls."""
        return f"/files/{self.avatar_id}/{self.version}/{self.name}"


class Links:
    """Make the urls that the emulator hands out, all below `base`, and tell them from others."""

    def __init__(self, controls: Controls) -> None:
        self.base = ""
        self._controls = controls
        self._key = secrets.token_bytes(32)
        self._file_key = secrets.token_bytes(32)

    def file(self, file: File) -> str:
        """Make a url for a download that lives for `Timing.url_ttl` seconds. No two are the same."""
        expires = f"{time.time() + self._controls.timing.url_ttl:.6f}"
        signed = {"expires": expires, "nonce": secrets.token_hex(4), "scene": file.scene}
        query = {**signed, "signature": self._sign_file(file.path, signed)}
        return f"{self.base}{file.path}?{urlencode({name: value for name, value in query.items() if value})}"

    def allows(self, path: str, query: Mapping[str, str]) -> bool:
        """Say whether a download's url was made here and is alive."""
        signed = {name: query.get(name, "") for name in ("expires", "nonce", "scene")}
        if not _same(query.get("signature", ""), self._sign_file(path, signed)):
            return False
        return time.time() < float(signed["expires"])

    def expire(self) -> None:
        """Kill all urls of downloads given out so far."""
        self._file_key = secrets.token_bytes(32)

    def upload(self, avatar_id: UUID) -> str:
        """Make the url that an avatar's photos are posted to."""
        return f"{self.base}/uploads/{avatar_id}/{self.secret(avatar_id)}"

    def session(self, session_id: UUID) -> str:
        """Make the url that opens a session."""
        return f"{self.base}/sessions/{session_id}/{self.secret(session_id)}"

    def secret(self, owner: UUID) -> str:
        """Return the part of an upload's or session's url that can't be guessed."""
        return hmac.new(self._key, owner.bytes, hashlib.sha256).hexdigest()[:43]

    def knows(self, owner: UUID, secret: str) -> bool:
        """Say whether an upload's or session's url was made here."""
        return _same(secret, self.secret(owner))

    def _sign_file(self, path: str, query: Mapping[str, str]) -> str:
        text = f"{path}?{urlencode(query)}"
        return hmac.new(self._file_key, text.encode(), hashlib.sha256).hexdigest()


def _same(given: str, right: str) -> bool:
    return hmac.compare_digest(given.encode(errors="replace"), right.encode())
