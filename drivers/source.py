"""A camera's source, one URL: reads its options, and makes a form of it for messages.

It knows nothing of single drivers. An unknown option is an error, since a mistyped option that is ignored
would be noticed too late. A message must never hold a user name or a password.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import parse_qsl, unquote

from drivers import typed_path
from drivers.camera import CameraError

_ON_DISK = ("folder", "file")
"""Their sources hold a path and no credentials."""

_SECRET = re.compile(
    r"(?i)\b(user(?:name)?|usr|login|pass(?:word|wd)?|pwd|psw|token|auth|secret|key)=[^&?#/]*",
)


def redacted(source: str) -> str:
    """The source without user name, password or tokens, for messages and logs.

    Everything before the last `@` is replaced, so that no part of a password with an unescaped `/` or `@`
    remains. If the path has an `@`, the host is replaced too, which does less harm than a shown password.
    A folder or file on this machine has no credentials: its path is shown.
    """
    if _is_path(source):
        return source
    scheme, separator, rest = source.partition("://")
    if not separator:
        scheme, rest = "", source
    if "@" in rest:
        rest = "***@" + rest.rpartition("@")[2]
    return scheme + separator + _SECRET.sub(r"\1=***", rest)


def find_secrets(source: str) -> str:
    """The parts that `redacted` removes, for a comparison with an earlier source; empty if there are none."""
    if _is_path(source):
        return ""
    _, separator, rest = source.partition("://")
    place = rest if separator else source
    credentials, _, address = place.rpartition("@")
    return "&".join([*filter(None, [credentials]), *(found[0] for found in _SECRET.finditer(address))])


def _is_path(source: str) -> bool:
    """Whether the source is an absolute path here. What stands before a path may be credentials."""
    return scheme_of(source) in _ON_DISK and source.partition("://")[2].startswith("/")


def scheme_of(source: str) -> str:
    """The scheme in lower case, as `rtsp` of `rtsp://...`; empty if there is none."""
    scheme, separator, _ = source.partition("://")
    return scheme.lower() if separator else ""


class Options:
    """A source's host, path and options. A driver reads its options by name and then calls `refuse_unknown`.

    A method that reads an option raises CameraError with the option's name, the problem and the allowed
    values.
    """

    def __init__(self, source: str) -> None:
        self.source = source
        place = source.partition("://")[2]
        if "\0" in place:
            raise self.error("it holds a NUL character")
        if scheme_of(source) in _ON_DISK:
            place, self._query = typed_path.split_options(place)
        elif "#" in place:
            raise self.error("a # has no meaning here: write %23 if it belongs to the name")
        else:
            place, _, self._query = place.partition("?")
        try:
            pairs = parse_qsl(self._query, keep_blank_values=True, strict_parsing=bool(self._query))
        except ValueError as error:
            raise CameraError(f"source {redacted(source)}: not a valid URL: {error}") from None
        host, slash, path = place.partition("/")
        self.host = unquote(host)
        self._typed = slash + path
        self.path = typed_path.decode(self._typed)
        if scheme_of(source) in _ON_DISK and not host:
            # Before any complaint about an option: it may be no option, but the end of the name.
            with self._ambiguity():
                typed_path.check_options(self._typed, self._query)
        self._given: dict[str, str] = {}
        self._known: list[str] = []
        for name, value in pairs:
            if name in self._given:
                raise self.error(f"option {name!r} is given twice: keep one")
            self._given[name] = value

    def error(self, problem: str) -> CameraError:
        """An error whose message begins with the source. The caller raises it."""
        return CameraError(f"source {redacted(self.source)}: {problem}")

    def find_path(self) -> Path:
        """The path on this machine, as it was typed or with escapes. Raises CameraError where both exist."""
        with self._ambiguity():
            return typed_path.find(self._typed, self._query)

    @contextmanager
    def _ambiguity(self) -> Iterator[None]:
        try:
            yield
        except typed_path.AmbiguousPath as error:
            raise self.error(str(error)) from None

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

    def integer(self, name: str, low: int, high: int) -> int | None:
        value = self.text(name)
        if value is None:
            return None
        # `isascii` is needed because `isdigit` and `int` accept digits of other scripts too.
        if not (value.isascii() and value.isdigit() and low <= int(value) <= high):
            raise self.error(f"option {name}={value!r} must be a whole number from {low} to {high}")
        return int(value)

    def size(self, name: str, low: int, high: int) -> tuple[int, int] | None:
        """Width and height from `WxH`, in pixels."""
        value = self.text(name)
        if value is None:
            return None
        found = re.fullmatch(r"([0-9]{1,5})x([0-9]{1,5})", value)
        if found is None or not all(low <= int(side) <= high for side in found.groups()):
            raise self.error(f"option {name}={value!r} must be WIDTHxHEIGHT, each from {low} to {high}")
        return int(found[1]), int(found[2])

    def refuse_unknown(self) -> None:
        """Raises CameraError for the first option that the driver did not read."""
        for name in self._given:
            if name not in self._known:
                close = difflib.get_close_matches(name, self._known, n=1)
                fix = f"did you mean {close[0]!r}?" if close else f"known here: {', '.join(self._known)}"
                raise self.error(f"unknown option {name!r}; {fix}")
