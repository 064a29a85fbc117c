"""The measures of a recipe's pictures, kept in memory and made on a thread where they are missing.

It knows nothing of the rules that use them (`picture_marks`).
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence

from drivers.image_file import ImageError, read
from monitor.teaching.picture_marks import Mark, PictureMeasure, find_marks, measure_picture
from monitor.teaching.teaching_folder import PictureKind, TeachingError, TeachingFolder


class PictureMeasures:
    """The measures of the pictures of one recipe at a time. Safe for several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._folder: TeachingFolder | None = None
        self._known: dict[str, PictureMeasure | None] = {}
        """By the picture's name; None where it can't be read."""
        self._working = False
        self._found: tuple[Sequence[str], dict[str, frozenset[Mark]]] = ((), {})
        """The marks that were found last, with the names that they were found for."""

    def find_marks(self, folder: TeachingFolder, names: Sequence[str]) -> dict[str, frozenset[Mark]] | None:
        """The marks of pictures of good parts by their names. None while some are not measured yet: a thread
        then measures them."""
        with self._lock:
            if self._folder != folder:
                self._folder, self._known, self._found = folder, {}, ((), {})
            missing = [name for name in names if name not in self._known]
            if missing:
                if not self._working:
                    self._working = True
                    threading.Thread(
                        target=self._measure, args=(folder, missing), name="measures", daemon=True
                    ).start()
                return None
            if self._found[0] != names:
                measured = [(name, one) for name in names if (one := self._known[name]) is not None]
                marks = find_marks([one for _, one in measured])
                self._found = names, {name: own for (name, _), own in zip(measured, marks, strict=True)}
                self._known = {name: self._known[name] for name in names}
            return self._found[1]

    def _measure(self, folder: TeachingFolder, names: Sequence[str]) -> None:
        try:
            for name in names:
                measure = None
                try:
                    measure = measure_picture(read(folder.find(PictureKind.GOOD, name)))
                except (TeachingError, ImageError) as error:
                    logging.getLogger(__name__).warning("%s: %s", name, error)
                with self._lock:
                    if self._folder != folder:
                        return
                    self._known[name] = measure
        finally:
            with self._lock:
                self._working = False
