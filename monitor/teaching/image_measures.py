"""The measures of recipes' images, kept in memory and made on a thread where they are missing.

It knows nothing of the rules that use them (`odd_images`).
"""

from __future__ import annotations

import logging
import threading
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import cv2

from drivers.image_file import ImageError, read
from monitor.teaching.odd_images import ImageMeasure, Oddity, find_oddities, measure_image
from monitor.teaching.teaching_folder import ImageKind, TeachingError, TeachingFolder

_MOST_FOLDERS = 8
"""Folders whose measures are kept, the most recently shown ones: up to 40 MB each."""


@dataclass(slots=True)
class _FolderMeasures:
    """What is known of one folder's images."""

    known: dict[str, ImageMeasure | None] = field(default_factory=dict)
    """By the image's name; None where it can't be read."""
    is_working: bool = False
    """Whether a thread measures some."""
    names: Sequence[str] = ()
    """The names for which `oddities` were found."""
    oddities: Mapping[str, frozenset[Oddity]] = field(default_factory=dict)


class ImageMeasures:
    """The measures of the images of several recipes. Safe for several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._turn = threading.Lock()
        """Held while one image is measured, so that several folders take one processor."""
        self._folders: OrderedDict[tuple[TeachingFolder, ImageKind], _FolderMeasures] = OrderedDict()

    def find_oddities(
        self, folder: TeachingFolder, kind: ImageKind, names: Sequence[str]
    ) -> Mapping[str, frozenset[Oddity]] | None:
        """The oddities of images by their names, each compared with the others of its kind. None while some
        are not measured yet: a thread then measures them."""
        with self._lock:
            own = self._folders.setdefault((folder, kind), _FolderMeasures())
            self._folders.move_to_end((folder, kind))
            while len(self._folders) > _MOST_FOLDERS:
                self._folders.popitem(last=False)
            missing = [name for name in names if name not in own.known]
            if missing:
                if not own.is_working:
                    own.is_working = True
                    threading.Thread(
                        target=self._measure, args=(folder, kind, own, missing), name="measures", daemon=True
                    ).start()
                return None
            if own.names != names:
                own.known = {name: own.known[name] for name in names}
                own.names, own.oddities = names, _find_oddities(own.known)
            return own.oddities

    def _measure(
        self, folder: TeachingFolder, kind: ImageKind, own: _FolderMeasures, names: Sequence[str]
    ) -> None:
        try:
            for name in names:
                measure = None
                try:
                    with self._turn:
                        measure = measure_image(read(folder.find(kind, name)))
                except (TeachingError, ImageError, cv2.error) as error:
                    logging.getLogger(__name__).warning("%s: %s", name, " ".join(str(error).split()))
                with self._lock:
                    if self._folders.get((folder, kind)) is not own:
                        return
                    own.known[name] = measure
        finally:
            with self._lock:
                own.is_working = False


def _find_oddities(known: Mapping[str, ImageMeasure | None]) -> dict[str, frozenset[Oddity]]:
    measured = {name: one for name, one in known.items() if one is not None}
    found = dict(zip(measured, find_oddities(list(measured.values())), strict=True))
    return {name: found.get(name, frozenset({Oddity.UNREADABLE})) for name in known}
