"""Names of files as other programs and people can read them.

A name on disk or in an archive is bytes and need not be text: Python then holds half characters in it, which
no output can carry. Only for output: the file can't be opened by such a name.
"""

from __future__ import annotations

import unicodedata


def legible(name: str) -> str:
    """The name with U+FFFD for each byte that is no UTF-8."""
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def in_one_line(name: str) -> str:
    """`legible`, with what would end the line or steer a terminal written as Python writes it: `\\n`."""
    return "".join(
        char.encode("unicode_escape").decode() if unicodedata.category(char) in ("Cc", "Zl", "Zp") else char
        for char in legible(name)
    )
