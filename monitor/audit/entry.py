"""One entry of the record of changes: its fields, its bytes in the file, and its hash.

It knows nothing of files. The hash of an entry is the SHA-256 of its other fields as JSON with sorted keys
and without spaces, so that an auditor can compute it with any JSON library. The hash of the entry before is
one of these fields: an entry can't be altered without altering all that follow.
"""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass
from enum import StrEnum

import msgspec

from monitor.errors import LineMonitorError
from monitor.system.printable import clean_line

FIRST = "0" * 64
"""What the first entry has in place of the hash of the entry before."""
MAX_LINE_BYTES = 65_536
"""The most bytes of an entry in the file. A longer line was not written by this program."""
_MAX_TEXT = 2_000
_HEAD = re.compile(r"(?:(\d{1,18}):)?([0-9a-f]{64})")


class HeadError(LineMonitorError):
    """A text is no head of the record. The message is one line with the fix."""


class Kind(StrEnum):
    """What was changed. The words are in the file and never change."""

    BEGIN = "begin"
    """The first entry: which line, on which machine."""
    LABEL = "label"
    """A person's label of a snapshot."""
    THRESHOLD = "threshold"
    """A calibration: another threshold, presence gate or statement of a recipe."""
    TRAINING = "training"
    PROMOTION = "promotion"
    ROLLBACK = "rollback"
    CHANGEOVER = "changeover"
    """Another recipe for a camera."""
    IN_FORCE = "in_force"
    """The version and threshold by which the line judges a recipe's parts from now on."""
    RESET = "reset"
    CHALLENGE = "challenge"
    """Known parts were shown to the line: due, a part shown once more, success, failure."""
    SETTING = "setting"
    ACCOUNT = "account"
    REFUSED = "refused"
    """A signature or a form that was refused: a wrong password, or a role that may not do this."""
    REPAIR = "repair"
    """A note on an incomplete line before this entry, left by a writer that was killed or lost its power."""


@dataclass(frozen=True, slots=True)
class Change:
    """One change, as its author records it. Texts never hold a secret."""

    kind: Kind
    who: str
    """The account's name; without accounts the name that a person gave, or the program and its user."""
    subject: str
    """What was changed, as `recipe.bottle-top.threshold` or a snapshot's path."""
    before: str | None
    """None: there was no value."""
    after: str | None
    meaning: str
    """Why, in a person's or the program's words; of a signature what it means."""
    utc: str
    """RFC 3339."""
    via: str = ""
    """The way it came: `page`, `command line`, an MQTT topic, `service`."""
    signed: bool = False
    """Whether the person gave name and password for this change."""


@dataclass(frozen=True, slots=True)
class Head:
    """The newest entry's hash and number. Together they state everything up to that entry."""

    hash: str
    count: int

    def __str__(self) -> str:
        return f"{self.count}:{self.hash}"

    @staticmethod
    def parse(text: str) -> Head:
        """A head as log, status and report show it, `17:4f0c...`; a hash alone has the count 0. Raises
        HeadError."""
        match = _HEAD.fullmatch(text.strip().lower())
        if match is None:
            raise HeadError(
                f"{text!r} is no head of the record: copy one from the log, the status or a report, as in "
                f"17:{'4f0c' * 16}"
            )
        return Head(match[2], int(match[1] or 0))


EMPTY = Head(FIRST, 0)
"""The head of a record without an entry."""


class Entry(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One line of the file."""

    n: int
    """Counts up by one from 1."""
    utc: str
    kind: str
    who: str
    subject: str
    before: str | None
    after: str | None
    meaning: str
    via: str
    signed: bool
    previous: str
    """The hash of the entry before."""
    hash: str

    @property
    def head(self) -> Head:
        return Head(self.hash, self.n)


_GLANCE = msgspec.json.Decoder(Entry)


def follow(head: Head, change: Change) -> Entry:
    """The entry of that change, after the entry of that head."""
    fields = {
        "n": head.count + 1,
        "utc": change.utc,
        "kind": change.kind.value,
        "who": _shorten(change.who),
        "subject": _shorten(change.subject),
        "before": None if change.before is None else _shorten(change.before),
        "after": None if change.after is None else _shorten(change.after),
        "meaning": _shorten(change.meaning),
        "via": _shorten(change.via),
        "signed": change.signed,
        "previous": head.hash,
    }
    return msgspec.convert({**fields, "hash": _hash(fields)}, Entry)


def encode(entry: Entry) -> bytes:
    """The entry's line in the file, with its line break."""
    return _canonical(msgspec.to_builtins(entry)) + b"\n"


def decode(line: bytes) -> Entry:
    """The entry of a line without its line break. Raises ValueError unless each of its bytes is as `encode`
    writes it and its hash is right."""
    try:
        entry = msgspec.json.decode(line, type=Entry)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise ValueError(f"is no entry of this record ({error})") from None
    fields = msgspec.to_builtins(entry)
    if _canonical(fields) != line:
        raise ValueError("is not written as this program writes entries")
    del fields["hash"]
    if _hash(fields) != entry.hash:
        raise ValueError("its hash is not that of its content")
    return entry


def glance(line: bytes) -> Entry | None:
    """The entry of a line with or without its line break, without a check of its bytes and its hash, for a
    search through many; None where it is none."""
    try:
        return _GLANCE.decode(line)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None


def decode_line(line: bytes) -> Entry | None:
    """The entry of a line with or without its line break; None where its bytes or its hash are not right."""
    try:
        return decode(line.removesuffix(b"\n"))
    except ValueError:
        return None


def digest_line(line: bytes) -> str:
    """How a `repair` entry names an incomplete line before it."""
    return f"{len(line)} bytes, sha256 {hashlib.sha256(line).hexdigest()}"


def _canonical(fields: object) -> bytes:
    return json.dumps(fields, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def _hash(fields: object) -> str:
    return hashlib.sha256(_canonical(fields)).hexdigest()


def _shorten(text: str) -> str:
    """The text as it is stored: in one line, and a very long one as its beginning and the SHA-256 of the
    whole."""
    text = clean_line(text)
    if len(text) <= _MAX_TEXT:
        return text
    return f"{text[: _MAX_TEXT - 100]}... sha256 {hashlib.sha256(text.encode()).hexdigest()}"
