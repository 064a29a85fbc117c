"""User and password in a camera's URL as people type them, with `#`, `@`, `/`, `?` and `%` in them.

FFmpeg wants these characters as escapes, such as `%23`. It knows nothing of cameras. No message holds any
part of user or password.
"""

from __future__ import annotations

import re
from urllib.parse import quote, unquote_to_bytes

_HOST = re.compile(r"(?P<name>\[[0-9A-Fa-f:.%\w-]+\]|[A-Za-z0-9_][A-Za-z0-9_.-]*)(?::[0-9]{1,5})?(?=[/?#]|$)")
_FIX = "write %23 for a #, %2F for a /, %3F for a ?, %40 for an @ and %25 for a % in user and password"


class AmbiguousCredentials(Exception):
    """Where user and password end can be read in two ways. The message is one line with the fix."""


def escape(url: str) -> str:
    """The URL with user and password in escapes; a URL without them is unchanged.

    `%` and two hexadecimal digits are taken for an escape. Raises AmbiguousCredentials.
    """
    scheme, separator, rest = url.partition("://")
    credentials, address = _split(rest)
    if credentials is None:
        return url
    user, colon, password = credentials.partition(":")
    return f"{scheme}{separator}{_escaped(user)}{colon}{_escaped(password)}@{address}"


def _escaped(text: str) -> str:
    return quote(unquote_to_bytes(text), safe="")


def _split(rest: str) -> tuple[str | None, str]:
    """User with password, and the address, of what follows `://`.

    Each `@` may end the password if a host follows. A name with a dot is a host more surely than one without.
    """
    first = re.split(r"[/?#]", rest, maxsplit=1)[0]
    if "@" not in first and _is_sure(rest):
        return None, rest
    readings: list[tuple[str | None, str]] = []
    if "@" not in first and _HOST.match(rest):
        readings.append((None, rest))
    for at in (place.start() for place in re.finditer("@", rest)):
        credentials, address = rest[:at], rest[at + 1 :]
        if _HOST.match(address) and (at < len(first) or ":" in credentials):
            readings.append((credentials, address))
    sure = [reading for reading in readings if _is_sure(reading[1])]
    if len(sure or readings) > 1:
        raise AmbiguousCredentials(f"where user and password end is not clear: {_FIX}")
    return (sure or readings or [(None, rest)])[0]


def _is_sure(address: str) -> bool:
    found = _HOST.match(address)
    return found is not None and (
        "." in found["name"] or found["name"].startswith("[") or found["name"] == "localhost"
    )
