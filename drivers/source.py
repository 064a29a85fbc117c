"""A camera's source as one URL: what a driver may ask of it, and how others may print it.

Refuses what it doesn't know by name, since a mistyped option that is ignored is found out too late. It must
never put a user name or a password into a message.
"""

from __future__ import annotations

import difflib
import re
from urllib.parse import parse_qsl, unquote, urlsplit

from drivers.camera import CameraError

_SECRET = re.compile(
    r"(?i)\b(user(?:name)?|usr|login|pass(?:word|wd)?|pwd|psw|token|auth|secret|key)=[^&?#/]*",
)


def redacted(source: str) -> str:
    """The source without user name, password or tokens, for messages and logs.

    Everything up to the last `@` goes, so that a password with an unescaped `/` or `@` doesn't survive in
    part; a path with an `@` loses its host too, which is the smaller harm.
    """
    scheme, separator, rest = source.partition("://")
    if not separator:
        scheme, rest = "", source
    if "@" in rest:
        rest = "***@" + rest.rpartition("@")[2]
    return scheme + separator + _SECRET.sub(r"\1=***", rest)


def secrets(source: str) -> str:
    """What `redacted` takes away, to tell whether it is still the same; empty when there is nothing."""
    _, separator, rest = source.partition("://")
    place = rest if separator else source
    credentials, _, address = place.rpartition("@")
    return "&".join([*filter(None, [credentials]), *(found[0] for found in _SECRET.finditer(address))])


def scheme_of(source: str) -> str:
    """`rtsp` of `rtsp://...`, in lower case; empty when there is none."""
    scheme, separator, _ = source.partition("://")
    return scheme.lower() if separator else ""


class Options:
    """A source's place and its options, read by name; `finish` refuses those that nobody read.

    Every getter raises CameraError with the option's name, what is wrong and what would be right.
    """

    def __init__(self, source: str) -> None:
        self.source = source
        try:
            parts = urlsplit(source)
            pairs = parse_qsl(parts.query, keep_blank_values=True, strict_parsing=bool(parts.query))
        except ValueError as error:
            raise CameraError(f"source {redacted(source)}: not a valid URL: {error}") from None
        self.host = unquote(parts.netloc)
        self.path = unquote(parts.path)
        self._given: dict[str, str] = {}
        self._known: list[str] = []
        for name, value in pairs:
            if name in self._given:
                raise self.error(f"option {name!r} is given twice: keep one")
            self._given[name] = value

    def error(self, problem: str) -> CameraError:
        """An error that begins with the source, to be raised by the caller."""
        return CameraError(f"source {redacted(self.source)}: {problem}")

    def text(self, name: str) -> str | None:
        self._known.append(name)
        return self._given.get(name)

    def choice(self, name: str, default: str, allowed: tuple[str, ...]) -> str:
        value = self.text(name)
        if value is None:
            return default
        if value not in allowed:
            raise self.error(f"option {name}={value!r} must be one of {', '.join(allowed)}")
        return value

    def flag(self, name: str, default: bool) -> bool:
        return self.choice(name, "1" if default else "0", ("0", "1")) == "1"

    def number(self, name: str, low: float, high: float) -> float | None:
        value = self.text(name)
        if value is None:
            return None
        try:
            number = float(value)
        except ValueError:
            number = float("nan")
        if not low <= number <= high:
            raise self.error(f"option {name}={value!r} must be a number from {low:g} to {high:g}")
        return number

    def whole(self, name: str, low: int, high: int) -> int | None:
        value = self.text(name)
        if value is None:
            return None
        # isascii: int() would also take other scripts' digits.
        if not (value.isascii() and value.isdigit() and low <= int(value) <= high):
            raise self.error(f"option {name}={value!r} must be a whole number from {low} to {high}")
        return int(value)

    def size(self, name: str, low: int, high: int) -> tuple[int, int] | None:
        """`WxH` in pixels."""
        value = self.text(name)
        if value is None:
            return None
        found = re.fullmatch(r"([0-9]{1,5})x([0-9]{1,5})", value)
        if found is None or not all(low <= int(side) <= high for side in found.groups()):
            raise self.error(f"option {name}={value!r} must be WIDTHxHEIGHT, each from {low} to {high}")
        return int(found[1]), int(found[2])

    def finish(self) -> None:
        """Raises CameraError for the first option that no getter asked for."""
        for name in self._given:
            if name not in self._known:
                close = difflib.get_close_matches(name, self._known, n=1)
                fix = f"did you mean {close[0]!r}?" if close else f"known here: {', '.join(self._known)}"
                raise self.error(f"unknown option {name!r}; {fix}")
