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
_KEY_AND_VALUE = re.compile(r"\s*([A-Za-z0-9_-]+)\s*=(.*)")
_KEY_AND_COLON = re.compile(r"\s*[A-Za-z0-9_-]+\s*:")
_NUMBER_WITH_UNIT = re.compile(r"[+-]?[0-9.]+\s*[A-Za-z%]{1,7}")
_DECIMAL_COMMA = re.compile(r"[+-]?[0-9]+,[0-9]+")
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
        advice = _advise_value(lines[line - 1]) if 0 < line <= len(lines) else ""
        fix = f"{message[:1].lower()}{message[1:]}; {advice or 'correct that line'}"
    raise TomlError(f"not valid TOML: {fix}", line)


def _advise_value(line: str) -> str:
    """How the value of a line is written that TOML does not understand; empty where that is unknown. The
    value may be a secret, so it is not repeated."""
    found = _KEY_AND_VALUE.match(line)
    if found is None:
        return "write KEY = VALUE" if _KEY_AND_COLON.match(line) else ""
    key, value = found[1], found[2].split(" #")[0].strip()
    if not value:
        return f"write a value after {key} ="
    if value.lower() in ("true", "false", "yes", "no", "on", "off"):
        return "write true or false, in small letters and without quotes"
    if value[0] == '"' and "\\" in value:
        return f"put a text with backslashes in single quotes, as in {key} = 'C:\\parts'"
    if value[0] in "\"'[{":
        return ""
    if _NUMBER_WITH_UNIT.fullmatch(value):
        return "write a number alone, without its unit, and text in quotes"
    if _DECIMAL_COMMA.fullmatch(value):
        return "write a point in the number, as in 3.5"
    if re.fullmatch(r"[+-]?[0-9_]+", value):
        return "write the number without leading zeros"
    return f'put text in quotes, as in {key} = "..."'


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
