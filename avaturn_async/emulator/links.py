"""Temporary urls. They are signed, so the emulator keeps no record of the ones it issued."""

import hashlib
import hmac
import secrets
import time
from collections.abc import Mapping
from urllib.parse import urlencode
from uuid import UUID

import attrs

from .settings import Settings
from .validation import ApiError

__all__ = ["File", "Links"]


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
    """Issue urls below `base`, and verify them."""

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
        """Whether a download url was issued here and has not expired."""
        signed = {name: query.get(name, "") for name in ("expires", "nonce", "scene")}
        genuine = _same(query.get("signature", ""), self._sign_file(path, signed))
        return genuine and time.time() < float(signed["expires"])

    def expire(self) -> None:
        """Invalidate all download urls issued so far."""
        self._file_key = secrets.token_bytes(32)

    def secret_url(self, kind: str, owner: UUID) -> str:
        """Return the url below /uploads or /sessions (`kind`) of an avatar or a session."""
        return f"{self.base}/{kind}/{owner}/{self._secret(owner)}"

    def owner_of(self, match: Mapping[str, str]) -> UUID:
        """Return whose url was requested, given the `owner` and `secret` in its path; raise a 404 if it is forged."""
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
