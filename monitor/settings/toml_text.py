"""The text of a settings file: its bytes as text, its tables, and the line on which a key stands.

It knows nothing of which keys exist.
"""

from __future__ import annotations

import codecs
import re
import tomllib
from collections.abc import Sequence
from typing import Any

KeyPath = tuple[str | int, ...]
"""A key by its table and name, as `("mqtt", "port")` or `("camera", 1, "source")`."""
_POSITION = re.compile(r" \(at (?:line (\d+), column \d+|end of document)\)$")
_TWICE = re.compile(r"Cannot declare \((.*?),?\) twice")
_TYPED_BY_A_WORD_PROCESSOR = re.compile("[\u2018-\u201f\u00a0]")


class TomlError(Exception):
    """The text is no TOML. The message is one line with the fix, `line` the line's number, 0 if unknown."""

    def __init__(self, message: str, line: int = 0) -> None:
        super().__init__(message)
        self.line = line


def decode(content: bytes) -> str:
    """The text of a file's bytes, without the byte order mark that some editors write. Raises TomlError."""
    if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        raise TomlError("not UTF-8 text but UTF-16; save it as UTF-8")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise TomlError("not UTF-8 text; save the file as UTF-8", line) from None
    if "\0" in text:
        raise TomlError(
            "not text, since it has zero bytes; save it as UTF-8", text.count("\n", 0, text.find("\0")) + 1
        )
    return text


def parse(text: str) -> dict[str, Any]:
    """The tables of the text. Raises TomlError."""
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        said = str(error)
    except RecursionError:
        raise TomlError("its brackets or tables are nested too deep; no setting needs that") from None
    except ValueError:
        # Python converts no whole number of more than 4,300 digits.
        raise TomlError("one of its numbers has thousands of digits; no setting needs that") from None
    position = _POSITION.search(said)
    lines = text.rstrip("\n").split("\n")
    line = int(position[1]) if position and position[1] else len(lines)
    message = _POSITION.sub("", said)
    if twice := _TWICE.match(message):
        table = ".".join(re.findall(r"'([^']*)'", twice[1]))
        fix = f"table [{table}] is given twice; join the two"
        if table == "camera":
            fix = "[camera] is given twice; write [[camera]] in double brackets, once for each camera"
    elif message == "Cannot overwrite a value":
        fix = "a key or table is given twice; keep one of the two"
    elif 0 < line <= len(lines) and _TYPED_BY_A_WORD_PROCESSOR.search(lines[line - 1]):
        fix = "the line has curved quotes or a non-breaking space; type it again with plain ones"
    else:
        fix = f"{message[:1].lower()}{message[1:]}; correct that line"
    raise TomlError(f"not valid TOML: {fix}", line)


def find_line(text: str, path: KeyPath) -> int:
    """The number of the line on which the value of a valid text stands. For a key that is not there, the line
    of its table; 0 for a table that is not there."""
    known = _longest_known(parse(text), path)
    if not known:
        return 0
    lines = text.replace("\r\n", "\n").split("\n")
    low, high = 1, len(lines)
    while low < high:
        middle = (low + high) // 2
        if _holds(lines, middle, known):
            high = middle
        else:
            low = middle + 1
    return low


def _holds(lines: Sequence[str], count: int, path: KeyPath) -> bool:
    """Whether the first lines hold the key. A value that they cut off is completed first."""
    for end in range(count, len(lines) + 1):
        try:
            tree = tomllib.loads("\n".join(lines[:end]))
        except tomllib.TOMLDecodeError:
            continue
        return _longest_known(tree, path) == path
    return True


def _longest_known(tree: Any, path: KeyPath) -> KeyPath:
    """The first steps of the path that lead to something in the tree."""
    for count, step in enumerate(path):
        try:
            tree = tree[step]
        except (KeyError, IndexError, TypeError):
            return path[:count]
    return path
