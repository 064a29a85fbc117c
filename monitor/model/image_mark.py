"""The mark by which a recipe remembers an image file, and which image files a recipe remembers.

It knows nothing of folders or of what is in an image.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

from monitor.model.recipe_json import Document


def content_mark(content: bytes) -> str:
    """The mark of an image file: the first 16 hex digits of its content's sha256."""
    return hashlib.sha256(content).hexdigest()[:16]


def known_marks(document: Document) -> frozenset[str]:
    """The marks of the images that trained the recipe, selected its student or set its thresholds, as far as
    the recipe records them."""
    return frozenset((*(document.training.seen if document.training else ()), *document.calibrated_on))


def list_digest(marks: Iterable[str]) -> str:
    """sha256 (hex) of a list of images: their marks, sorted, a line each."""
    return hashlib.sha256("".join(f"{mark}\n" for mark in sorted(marks)).encode()).hexdigest()
