"""Labels that people give to snapshots, kept in the snapshot's `.json` file.

It knows nothing of files or of the page: it turns bytes into values and values into bytes. A label never
changes what the line has decided. All other fields of the `.json` are kept unchanged.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from monitor.names import join_version

MAX_LABELS = 20
"""A snapshot keeps this many labels; the oldest are dropped."""
MAX_JSON_BYTES = 65_536
"""A larger `.json` was not written by this program and is not read."""
_SURROGATE = re.compile("[\ud800-\udfff]")


class Label(StrEnum):
    DEFECT = "defect"
    OVERKILL = "overkill"
    UNSURE = "unsure"

    @property
    def term(self) -> str:
        """The field's word alone, for places with little room."""
        return {"defect": "real defect", "overkill": "overkill", "unsure": "unsure"}[self.value]

    @property
    def text(self) -> str:
        """The field's word with its meaning."""
        return "overkill (good part rejected)" if self is Label.OVERKILL else self.term


@dataclass(frozen=True, slots=True)
class LabelEntry:
    """One label, the person who gave it, and the time (RFC 3339, UTC)."""

    label: Label
    by: str = ""
    utc: str = ""


@dataclass(frozen=True, slots=True)
class SnapshotDetails:
    """The fields of a snapshot's `.json` that the operators' page and `fleet rescore` use."""

    recipe: str
    verdict: str
    threshold: float | None
    score: float | None
    label_entry: LabelEntry | None
    """The newest label."""
    recipe_sha: str = ""
    """Of the version that judged the part."""
    challenge: str = ""
    """The id of the challenge part that it shows; empty for production."""
    version: int | None = None
    """The number of the version that judged the part; None where it is not known."""

    @property
    def recipe_name(self) -> str:
        """The recipe with its version, as `plate@3`."""
        return join_version(self.recipe, self.version)

    def ratio_text(self, score: float) -> str:
        """Score divided by threshold, as text; empty where there is no threshold."""
        if not self.threshold or self.threshold < 0:
            return ""
        ratio = score / self.threshold
        return f"{ratio:.2f}×" if ratio < 9.995 else f"{ratio:.0f}×"

    @property
    def label(self) -> Label | None:
        return self.label_entry.label if self.label_entry else None


NO_DETAILS = SnapshotDetails("", "", None, None, None)
"""The details of a snapshot without a readable `.json`."""


def parse_document(content: bytes) -> dict[str, Any]:
    """The JSON object in a `.json` file's bytes. Raises ValueError when they hold no object."""
    try:
        document = json.loads(content)
    except RecursionError:
        raise ValueError("nested too deep") from None
    if not isinstance(document, dict):
        raise ValueError("not a JSON object")
    return document


def details_of(document: Mapping[str, Any]) -> SnapshotDetails:
    """Reads each field on its own; a field of the wrong type counts as absent."""
    labels = document.get("labels")
    newest = labels[-1] if isinstance(labels, list) and labels else None
    return SnapshotDetails(
        recipe=_text(document.get("recipe")),
        verdict=_text(document.get("verdict")),
        threshold=_number(document.get("threshold")),
        score=_number(document.get("score")),
        label_entry=_label_entry(newest),
        recipe_sha=_text(document.get("recipe_sha")),
        challenge=_text(document.get("challenge")),
        version=_version(document.get("version")),
    )


def add_label(document: Mapping[str, Any], entry: LabelEntry | None) -> dict[str, Any]:
    """A copy of the document with one more label; None removes all labels."""
    before = document.get("labels")
    labels = list(before) if isinstance(before, list) else []
    if entry is None:
        labels = []
    else:
        labels.append({"label": entry.label.value, "by": entry.by, "utc": entry.utc})
    return {**document, "labels": labels[-MAX_LABELS:]}


def encode_document(document: Mapping[str, Any]) -> bytes:
    """Raises ValueError for a document that `parse_document` could not read again."""
    try:
        return (json.dumps(document, allow_nan=False, indent=1) + "\n").encode()
    except RecursionError:
        raise ValueError("nested too deep") from None


def _version(value: object) -> int | None:
    return value if type(value) is int and value > 0 else None


def _label_entry(entry: object) -> LabelEntry | None:
    # A plain string counts too: people and other programs may write labels by hand.
    word = entry.get("label") if isinstance(entry, dict) else entry
    if not isinstance(word, str) or word not in tuple(Label):
        return None
    by, utc = (entry.get("by"), entry.get("utc")) if isinstance(entry, dict) else ("", "")
    return LabelEntry(Label(word), _text(by), _text(utc))


def _text(value: object) -> str:
    # JSON can hold half of a surrogate pair; encoding it for the page would fail.
    return value if isinstance(value, str) and not _SURROGATE.search(value) else ""


def _number(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        number = float(value)
    except OverflowError:
        return None
    return number if math.isfinite(number) else None
