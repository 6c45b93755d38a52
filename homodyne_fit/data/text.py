"""Text files in the encodings of editors on all systems."""

from __future__ import annotations

import codecs

__all__ = ["UNICODE", "decode_text"]

# Encodings that need no guess.
UNICODE = ("utf-8-sig", "utf-16", "utf-16-le", "utf-16-be")

# Bytes that no text has, whatever its encoding.
CONTROL_CHARACTERS = frozenset(range(32)) - frozenset(b"\t\n\r\f")


def decode_text(content: bytes) -> tuple[str, str] | None:
    """The text of a file and its encoding; None for a file that is no text."""
    for encoding in _possible_encodings(content):
        try:
            return content.decode(encoding), encoding
        except UnicodeDecodeError:
            continue
    return None


def _possible_encodings(content: bytes) -> tuple[str, ...]:
    """Encodings to try, in this order; none for a file that is no text."""
    if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return ("utf-16",)
    if content[1::2].count(0) > len(content) / 4:
        return ("utf-16-le",)
    if content[::2].count(0) > len(content) / 4:
        return ("utf-16-be",)
    if set(content) & CONTROL_CHARACTERS:
        return ()
    return ("utf-8-sig", "cp1252", "latin-1")
