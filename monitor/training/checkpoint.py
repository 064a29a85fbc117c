"""What a training run needs to go on after it was killed: kept beside the recipe until that is committed.

A folder with `run.json` and the safetensors file that it names; renaming `run.json` into place commits, so a
crash at any moment leaves the old state or the new one. Nothing is pickled.

Must never be the reason that a training fails, nor that its result differs from an uninterrupted one's: what
can't be written costs a line, what can't be read or belongs to other images or settings is not used.
"""

from __future__ import annotations

import hashlib
import shutil
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Literal

import msgspec

from monitor.model.weights import Weights, WeightsError, from_bytes, to_bytes
from monitor.system.atomic_file import WRITING, write_whole

FILE = "run.json"
_EVERY_S = 30.0
_SHARE = 50.0
"""Saving takes at most this part of the time: a slow disk is written to less often."""


class Place(msgspec.Struct, frozen=True, kw_only=True):
    """How far a run has come: between two steps."""

    epoch: Annotated[int, msgspec.Meta(ge=1)]
    """The one in progress, from 1."""
    steps: Annotated[int, msgspec.Meta(ge=0)]
    """Its steps that are done."""
    total: float
    """Its loss so far, summed over images."""
    losses: tuple[float, ...]
    select_maps: tuple[float, ...]
    told_apart: tuple[float, ...]
    """Of the epochs before it."""
    order: str
    """The state, as JSON, of the generator that is about to draw the epoch's order of images."""


class _Document(msgspec.Struct, frozen=True, kw_only=True):
    schema: Literal[1] = 1
    run: dict[str, str]
    place: Place
    state: Annotated[str, msgspec.Meta(pattern=r"^state-[0-9a-f]{16}\.safetensors$")]
    sha256: str


class Checkpoint:
    """One run's state on disk. `run` is all that decides its result, by the word for it that people read."""

    def __init__(
        self,
        folder: Path,
        run: Mapping[str, str],
        *,
        say: Callable[[str], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._folder = folder
        self._run = dict(run)
        self._say = say
        self._clock = clock
        self._saved = clock()
        self._cost = 0.0
        self._refused = False

    def load(self) -> tuple[Place, Weights] | None:
        """Where the same run stopped, with its arrays; None, and a line that says why, to start anew."""
        file = self._folder / FILE
        if not file.exists():
            return None
        try:
            document = msgspec.json.decode(file.read_bytes(), type=_Document)
            content = (self._folder / document.state).read_bytes()
            if hashlib.sha256(content).hexdigest() != document.sha256:
                raise WeightsError("its sha256 is another")
            arrays = from_bytes(content)
        except (OSError, msgspec.DecodeError, UnicodeDecodeError, RecursionError, WeightsError) as error:
            self._say(f"{self._folder}: the interrupted training there is damaged ({error}): starting anew")
            return None
        if document.run != self._run:
            keys = sorted(document.run.keys() | self._run.keys())
            other = ", ".join(key for key in keys if document.run.get(key) != self._run.get(key))
            self._say(f"{self._folder}: the interrupted training there had other {other}: starting anew")
            return None
        self._say(f"resumed at epoch {document.place.epoch}")
        return document.place, arrays

    def due(self, *, epoch_ended: bool) -> bool:
        """Whether it is time to save: after an epoch, and within a long one after half a minute."""
        since = self._clock() - self._saved
        return since >= _SHARE * self._cost and (epoch_ended or since >= _EVERY_S)

    def save(self, place: Place, arrays: Weights) -> None:
        """Replaces what was kept. A disk that refuses costs one line a run."""
        began = self._clock()
        content = to_bytes(arrays)
        sha = hashlib.sha256(content).hexdigest()
        document = _Document(run=self._run, place=place, state=f"state-{sha[:16]}.safetensors", sha256=sha)
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            write_whole(self._folder / document.state, content)
            write_whole(self._folder / FILE, msgspec.json.encode(document))
            for file in self._folder.iterdir():
                if file.name.startswith(("state-", WRITING)) and file.name != document.state:
                    file.unlink(missing_ok=True)
        except OSError as error:
            if not self._refused:
                self._say(
                    f"warning: {self._folder}: can't be written ({error.strerror or error}): "
                    "an interruption would lose this training"
                )
            self._refused = True
        self._saved = self._clock()
        self._cost = self._saved - began

    def remove(self) -> None:
        """For when the run has come to its end."""
        if not self._folder.is_dir():
            return
        try:
            shutil.rmtree(self._folder)
        except OSError as error:
            self._say(f"warning: {self._folder}: can't be removed ({error.strerror or error})")
