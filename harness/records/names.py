"""Names that others take: shortened to what a tracker takes, or made harmless as a file's; a hash keeps them apart."""

from __future__ import annotations

import hashlib


def shorten(text: str, limit: int) -> str:
    """The text; or its beginning and its hash, where it has more characters than `limit`."""
    return text if len(text) <= limit else _hashed(text, text, limit)


def file_name(text: str, limit: int = 64) -> str:
    """A file or folder name for a text: the text itself, or its harmless characters and its hash."""
    plain = "".join(one if one.isalnum() or one in " -_=+,()." else "_" for one in text)
    is_fine = plain == text and text[:1] not in ("", ".") and len(text) <= limit
    return text if is_fine else _hashed(plain, text, limit)


def _hashed(shown: str, text: str, limit: int) -> str:
    return f"{shown[: limit - 9].lstrip('.')}-{hashlib.sha256(text.encode()).hexdigest()[:8]}"
