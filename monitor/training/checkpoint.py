"""The state of a training run on disk, from which a killed run continues. It is removed when the run ends.

It knows nothing of networks: it stores a position, named arrays and a description of the run.

The state is a folder with `run.json` and the safetensors file that `run.json` names. Renaming `run.json` into
place commits a state, so a crash at any moment leaves the old state or the new one. Nothing is pickled.

A checkpoint must never make a training fail and must never change its result: if a state can't be written,
one warning is printed, and a state that is damaged or belongs to other images or settings is not used.
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
RESUMED = "resumed at epoch "
"""The beginning of the line for the user when a run continues; the epoch's number follows."""
_WITHIN_EPOCH_S = 30.0
"""Within an epoch the state is saved at most this often."""
_LEAST_PAUSE = 50.0
"""The pause between two saves is at least this many times as long as the last save took: on a slow disk the
state is saved less often."""


class Position(msgspec.Struct, frozen=True, kw_only=True):
    """How far a run has come, between two steps of the optimiser."""

    epoch: Annotated[int, msgspec.Meta(ge=1)]
    """The epoch in progress, from 1."""
    steps: Annotated[int, msgspec.Meta(ge=0)]
    """The finished steps of that epoch."""
    total: float
    """The loss of that epoch so far, summed over its pictures."""
    losses: tuple[float, ...]
    """The mean training loss of each finished epoch."""
    select_maps: tuple[float, ...]
    """The mean anomaly map of the select pictures after each finished epoch."""
    told_apart: tuple[float, ...]
    """The separation of drawn defects from good pictures after each finished epoch."""
    random_state: str = msgspec.field(name="order")
    """The random generator's state, as JSON, from which it draws the epoch's order of pictures."""


class _Document(msgspec.Struct, frozen=True, kw_only=True):
    """`run.json`."""

    schema: Literal[1] = 1
    run: dict[str, str]
    position: Position = msgspec.field(name="place")
    state: Annotated[str, msgspec.Meta(pattern=r"^state-[0-9a-f]{16}\.safetensors$")]
    sha256: str


def checkpoint_folder(recipes: Path, recipe: str) -> Path:
    """The folder of a recipe's checkpoint, beside the recipe's own folder."""
    return recipes / f".training-{recipe}"


class Checkpoint:
    """One run's state on disk.

    `run` describes everything that decides the run's result. Where an earlier run differs, the message to the
    user names its keys.
    """

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
        self._saved_at = clock()
        self._save_s = 0.0
        self._warned = False

    def load(self) -> tuple[Position, Weights] | None:
        """The position and the arrays with which the same run was interrupted.

        None if there is no state that can be used. `say` gets a line with the reason if there is a state that
        can't be used, and also a line when the run resumes.
        """
        file = self._folder / FILE
        if not file.exists():
            return None
        try:
            document = msgspec.json.decode(file.read_bytes(), type=_Document)
            content = (self._folder / document.state).read_bytes()
            if hashlib.sha256(content).hexdigest() != document.sha256:
                raise WeightsError("the file's sha256 is not the recorded one")
            arrays = from_bytes(content)
        except (OSError, msgspec.DecodeError, UnicodeDecodeError, RecursionError, WeightsError) as error:
            self._say(f"{self._folder}: the interrupted training there is damaged ({error}): starting anew")
            return None
        if document.run != self._run:
            keys = sorted(document.run.keys() | self._run.keys())
            other = ", ".join(key for key in keys if document.run.get(key) != self._run.get(key))
            self._say(f"{self._folder}: the interrupted training there had other {other}: starting anew")
            return None
        self._say(f"{RESUMED}{document.position.epoch}")
        return document.position, arrays

    def due(self, *, epoch_ended: bool) -> bool:
        """Whether it is time to save: after each epoch and every 30 s within a longer one, but not before 50
        times the duration of the last save has passed."""
        since = self._clock() - self._saved_at
        return since >= _LEAST_PAUSE * self._save_s and (epoch_ended or since >= _WITHIN_EPOCH_S)

    def save(self, position: Position, arrays: Weights) -> None:
        """Replaces the saved state. If it can't be written, one warning is printed for the whole run."""
        began = self._clock()
        content = to_bytes(arrays)
        sha = hashlib.sha256(content).hexdigest()
        document = _Document(
            run=self._run, position=position, state=f"state-{sha[:16]}.safetensors", sha256=sha
        )
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            write_whole(self._folder / document.state, content)
            write_whole(self._folder / FILE, msgspec.json.encode(document))
            for file in self._folder.iterdir():
                if file.name.startswith(("state-", WRITING)) and file.name != document.state:
                    file.unlink(missing_ok=True)
        except OSError as error:
            if not self._warned:
                self._say(
                    f"warning: {self._folder}: can't be written ({error.strerror or error}): "
                    "this training can't continue if it is interrupted"
                )
            self._warned = True
        self._saved_at = self._clock()
        self._save_s = self._saved_at - began

    def remove(self) -> None:
        """Removes the state, at the run's end."""
        if not self._folder.is_dir():
            return
        try:
            shutil.rmtree(self._folder)
        except OSError as error:
            self._say(f"warning: {self._folder}: can't be removed ({error.strerror or error})")
