"""The path in `folder://` and `file://` as people type it: `#`, `?`, `%` and spaces may belong to a name.

A path may also be written with escapes, such as `%20` for a space. Which of both is meant shows on the disk:
what exists. Where both exist, the source is refused with the spelling of each. It knows nothing of images.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from urllib.parse import unquote_to_bytes

_OPTIONS = re.compile(r"[A-Za-z_]+=[^=&?/]*(?:&[A-Za-z_]+=[^=&?/]*)*")


class AmbiguousPath(Exception):
    """The path can be read in two ways. The message is one line with the spelling of each."""


def split_options(place: str) -> tuple[str, str]:
    """The path and the options of what follows `://`.

    Only `name=value` pairs after the last `?` are options. Any other `?`, and a `#`, belong to the path.
    """
    path, mark, options = place.rpartition("?")
    return (path, options) if mark and _OPTIONS.fullmatch(options) else (place, "")


def find(typed: str, options: str = "") -> Path:
    """The path that is meant. Where nothing exists, the path with its escapes decoded.

    Raises AmbiguousPath.
    """
    check_options(typed, options)
    literal, decoded = Path(typed), Path(decode(typed))
    found = [path for path in dict.fromkeys((literal, decoded)) if os.path.lexists(path)]
    if len(found) > 1:
        raise AmbiguousPath(
            f"{literal} and {decoded} both exist: "
            f"write {spell(str(literal))} for the first, {spell(str(decoded))} for the second"
        )
    return found[0] if found else decoded


def check_options(typed: str, options: str) -> None:
    """Raises AmbiguousPath where a path with all or the first of the options as a part of its name exists."""
    pairs = options.split("&") if options else []
    for path in dict.fromkeys((typed, decode(typed))):
        for count in range(len(pairs), 0, -1):
            whole, rest = f"{path}?{'&'.join(pairs[:count])}", "&".join(pairs[count:])
            if os.path.lexists(whole):
                raise AmbiguousPath(
                    f"{whole} exists, and {path} with the option {options} can be meant too: "
                    f"write {spell(whole)}{rest and '?' + rest} for the first, or rename it for the second"
                )


def decode(typed: str) -> str:
    """The path with its escapes decoded; what is no escape stays. A name's bytes need not be UTF-8."""
    return os.fsdecode(unquote_to_bytes(os.fsencode(typed))).replace("\0", "%00")


def spell(path: str) -> str:
    """How to type the path so that it is read in one way only: as it is, or with escapes for `%` and `?`."""
    if decode(path) == path and not split_options(path)[1]:
        return path
    return path.replace("%", "%25").replace("?", "%3F")
