"""What people say about snapshots: the labels in a snapshot's `.json`, beside its pictures.

A label never changes what the line has decided. What else stands in the `.json` is kept as it is.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

MOST_KEPT = 20
"""Labels a snapshot remembers; the oldest go."""
MOST_BYTES = 65_536
"""A larger `.json` is none of ours."""
_HALF = re.compile("[\ud800-\udfff]")


class Label(StrEnum):
    DEFECT = "defect"
    OVERKILL = "overkill"
    UNSURE = "unsure"

    @property
    def words(self) -> str:
        return {"defect": "real defect", "overkill": "overkill", "unsure": "unsure"}[self.value]


@dataclass(frozen=True, slots=True)
class Said:
    """One label with who said it, and when (RFC 3339, UTC)."""

    label: Label
    by: str = ""
    utc: str = ""


@dataclass(frozen=True, slots=True)
class About:
    """What the page needs of a snapshot's `.json`."""

    recipe: str
    verdict: str
    threshold: float | None
    score: float | None
    said: Said | None
    """The newest label."""

    def times(self, score: float) -> str:
        """A score in thresholds, for a person; empty where there is no threshold."""
        if not self.threshold or self.threshold < 0:
            return ""
        ratio = score / self.threshold
        return f"{ratio:.2f}×" if ratio < 9.995 else f"{ratio:.0f}×"

    @property
    def label(self) -> Label | None:
        return self.said.label if self.said else None


UNKNOWN = About("", "", None, None, None)
"""Of a snapshot without a readable `.json`."""


def decoded(content: bytes) -> dict[str, Any]:
    """A `.json`'s object. Raises ValueError when it is none."""
    try:
        document = json.loads(content)
    except RecursionError:
        raise ValueError("nested too deep") from None
    if not isinstance(document, dict):
        raise ValueError("not a JSON object")
    return document


def about(document: Mapping[str, Any]) -> About:
    """What is said in a `.json`, field by field; a field of the wrong kind counts as absent."""
    labels = document.get("labels")
    newest = labels[-1] if isinstance(labels, list) and labels else None
    return About(
        recipe=_text(document.get("recipe")),
        verdict=_text(document.get("verdict")),
        threshold=_number(document.get("threshold")),
        score=_number(document.get("score")),
        said=_said(newest),
    )


def labelled(document: Mapping[str, Any], said: Said | None) -> dict[str, Any]:
    """The document with one more label; with None nobody has said anything any more."""
    before = document.get("labels")
    kept = list(before) if isinstance(before, list) else []
    if said is None:
        kept = []
    else:
        kept.append({"label": said.label.value, "by": said.by, "utc": said.utc})
    return {**document, "labels": kept[-MOST_KEPT:]}


def encoded(document: Mapping[str, Any]) -> bytes:
    """Raises ValueError for what could not be read again."""
    try:
        return (json.dumps(document, allow_nan=False, indent=1) + "\n").encode()
    except RecursionError:
        raise ValueError("nested too deep") from None


def _said(entry: object) -> Said | None:
    # Plain words too: others may have written labels by hand.
    word = entry.get("label") if isinstance(entry, dict) else entry
    if not isinstance(word, str) or word not in tuple(Label):
        return None
    by, utc = (entry.get("by"), entry.get("utc")) if isinstance(entry, dict) else ("", "")
    return Said(Label(word), _text(by), _text(utc))


def _text(value: object) -> str:
    # JSON can hold half a character, which no page can be written with.
    return value if isinstance(value, str) and not _HALF.search(value) else ""


def _number(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        number = float(value)
    except OverflowError:
        return None
    return number if math.isfinite(number) else None
