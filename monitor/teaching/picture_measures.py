"""The measures of recipes' pictures, kept in memory and made on a thread where they are missing.

It knows nothing of the rules that use them (`picture_marks`).
"""

from __future__ import annotations

import logging
import threading
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import cv2

from drivers.image_file import ImageError, read
from monitor.teaching.picture_marks import Mark, PictureMeasure, find_marks, measure_picture
from monitor.teaching.teaching_folder import PictureKind, TeachingError, TeachingFolder

_MOST_FOLDERS = 8
"""Folders whose measures are kept, the most recently shown ones: up to 40 MB each."""


@dataclass(slots=True)
class _FolderMeasures:
    """What is known of one folder's pictures."""

    known: dict[str, PictureMeasure | None] = field(default_factory=dict)
    """By the picture's name; None where it can't be read."""
    is_working: bool = False
    """Whether a thread measures some."""
    names: Sequence[str] = ()
    """The names for which `marks` were found."""
    marks: Mapping[str, frozenset[Mark]] = field(default_factory=dict)


class PictureMeasures:
    """The measures of the pictures of several recipes. Safe for several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._turn = threading.Lock()
        """Held while one picture is measured, so that several folders take one processor."""
        self._folders: OrderedDict[TeachingFolder, _FolderMeasures] = OrderedDict()

    def find_marks(
        self, folder: TeachingFolder, names: Sequence[str]
    ) -> Mapping[str, frozenset[Mark]] | None:
        """The marks of pictures of good parts by their names. None while some are not measured yet: a thread
        then measures them."""
        with self._lock:
            own = self._folders.setdefault(folder, _FolderMeasures())
            self._folders.move_to_end(folder)
            while len(self._folders) > _MOST_FOLDERS:
                self._folders.popitem(last=False)
            missing = [name for name in names if name not in own.known]
            if missing:
                if not own.is_working:
                    own.is_working = True
                    threading.Thread(
                        target=self._measure, args=(folder, own, missing), name="measures", daemon=True
                    ).start()
                return None
            if own.names != names:
                own.known = {name: own.known[name] for name in names}
                own.names, own.marks = names, _find_marks(own.known)
            return own.marks

    def _measure(self, folder: TeachingFolder, own: _FolderMeasures, names: Sequence[str]) -> None:
        try:
            for name in names:
                measure = None
                try:
                    with self._turn:
                        measure = measure_picture(read(folder.find(PictureKind.GOOD, name)))
                except (TeachingError, ImageError, cv2.error) as error:
                    logging.getLogger(__name__).warning("%s: %s", name, " ".join(str(error).split()))
                with self._lock:
                    if self._folders.get(folder) is not own:
                        return
                    own.known[name] = measure
        finally:
            with self._lock:
                own.is_working = False


def _find_marks(known: Mapping[str, PictureMeasure | None]) -> dict[str, frozenset[Mark]]:
    measured = {name: one for name, one in known.items() if one is not None}
    found = dict(zip(measured, find_marks(list(measured.values())), strict=True))
    return {name: found.get(name, frozenset({Mark.UNREADABLE})) for name in known}
