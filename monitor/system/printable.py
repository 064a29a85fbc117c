"""Turns file names into text that every output can carry.

A file name on disk or in an archive is bytes and need not be UTF-8. Python keeps the other bytes as surrogate
characters, which cannot be encoded for output. The results are for output only: they do not open the file.
"""

from __future__ import annotations

import unicodedata


def clean_name(name: str) -> str:
    """The name with U+FFFD for each byte that is not UTF-8."""
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def clean_line(name: str) -> str:
    """The same in one line: line breaks and terminal control characters are escaped as in Python (`\\n`)."""
    return "".join(
        char.encode("unicode_escape").decode() if unicodedata.category(char) in ("Cc", "Zl", "Zp") else char
        for char in clean_name(name)
    )
