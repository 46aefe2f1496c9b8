"""Tell by its first bytes what came instead of the expected file."""

__all__ = ["describe"]

SIGNATURES = (
    (b"<", "a page of HTML or XML"),
    (b"{", "JSON"),
    (b"[", "JSON"),
    (b"\x1f\x8b", "gzip data"),
    (b"PK\x03\x04", "a ZIP archive"),
    (b"\x89PNG", "a PNG image"),
    (b"\xff\xd8\xff", "a JPEG image"),
    (b"RIFF", "a RIFF file, perhaps a WebP image"),
)


def describe(head: bytes) -> str:
    """Describe a file that begins with these bytes."""
    start = head.removeprefix(b"\xef\xbb\xbf").lstrip()
    kinds = (kind for signature, kind in SIGNATURES if start.startswith(signature))
    return next(kinds, f"something that begins with {head[:4]!r}")
