"""Where a source of stored images stands, so that who opens it anew goes on there and repeats no part.

It knows nothing of images. The folder, clip and simulated cameras say which image they read; the capture
worker says which image has its frame, and keeps the mark over its own death.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import IntEnum


class Step(IntEnum):
    DECODING = 0
    """The image is being decoded. Found by a successor, it ended the program before."""
    DECODED = 1
    TOLD = 2
    """The image has its frame."""


@dataclass(frozen=True, slots=True)
class Mark:
    """The newest image: its index in the stream, its file's name (empty for a clip), and how far it came."""

    index: int = -1
    name: str = ""
    step: Step = Step.TOLD

    @property
    def next_index(self) -> int:
        """The index of the next image to be given."""
        return self.index + (self.step is Step.TOLD)


class Progress:
    """Keeps the mark in memory."""

    def __init__(self) -> None:
        self.mark = Mark()

    def begin(self, index: int, name: str = "") -> None:
        """Says that an image is about to be decoded. It must be called before."""
        self.keep(Mark(index, name, Step.DECODING))

    def finish(self) -> None:
        """Says that the image is decoded."""
        self.keep(replace(self.mark, step=Step.DECODED))

    def tell(self, index: int | None) -> None:
        """Says that the image of that index has its frame."""
        if index == self.mark.index:
            self.keep(replace(self.mark, step=Step.TOLD))

    def keep(self, mark: Mark) -> None:
        self.mark = mark


class Unkept(Progress):
    """Keeps no mark: who opens the source again begins at its first image."""

    def keep(self, mark: Mark) -> None:
        """Forget the mark."""
