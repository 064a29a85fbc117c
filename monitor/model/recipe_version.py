"""One version of a recipe: its document and its weights, wholly in memory, and how a folder holds it.

It knows nothing of runtimes or scores. A folder `recipes/<name>/` has `recipe.json`, the student's weights
and a copy of the teacher's trunk, so that the recipe runs where the teacher's own file is not. Renaming
`recipe.json` into place commits a version. The name of each weight file carries its own sha256, so that two
versions can't be mixed up. Nothing is pickled.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import msgspec
import numpy as np

from monitor.images.preprocessing import Size, as_size
from monitor.images.tiling import Grid
from monitor.model.recipe_document import (
    FILE,
    Calibration,
    Document,
    Presence,
    RecipeError,
    Roi,
    WeightsFile,
    check_document,
    grid_of,
)
from monitor.model.weights import Weights, WeightsError, fingerprint, from_bytes, to_bytes
from monitor.system.atomic_file import WRITING, write_whole


@dataclass(frozen=True, eq=False)
class RecipeVersion:
    """One version of a recipe, wholly in memory: what was loaded runs, whatever is committed later."""

    folder: Path
    document: Document
    sha: str
    """sha256 (hex) of `recipe.json`: the `recipe_sha` of verdicts."""
    teacher: Weights
    student: Weights
    quantised: Weights | None = None

    @property
    def name(self) -> str:
        return self.document.name

    @property
    def size(self) -> Size:
        """Rows and columns that images are squashed to, and of their anomaly maps."""
        return as_size(self.document.size)

    @property
    def frame(self) -> Size:
        """Of the images that it was trained for, as far as it knows: else its own size."""
        if self.document.presence is not None:
            return self.document.presence.rows, self.document.presence.columns
        return (self.roi[3], self.roi[2]) if self.roi else self.size

    @property
    def grid(self) -> Grid:
        """The tiles in which the network sees an image of `size`; mostly one."""
        return grid_of(self.size, self.document.tiles)

    @property
    def roi(self) -> Roi | None:
        return self.document.roi

    @staticmethod
    def load(path: str | Path) -> RecipeVersion:
        """The version that is committed in a recipe's folder, or in the folder of a `recipe.json`.

        Raises RecipeError when anything is missing, damaged or not what `recipe.json` says it is.
        """
        folder = _folder(Path(path))
        content = _read(folder / FILE)
        while True:
            try:
                return _assemble(folder, content)
            except RecipeError:
                # A newer version may have been committed, and this one's weights removed, meanwhile.
                newer = _read(folder / FILE)
                if newer == content:
                    raise
                content = newer

    def with_calibration(self, calibration: Mapping[str, Calibration]) -> RecipeVersion:
        """The same recipe with other thresholds, not yet committed."""
        document = msgspec.structs.replace(self.document, calibration=dict(calibration))
        return replace(self, document=document, sha="")

    def with_presence(self, presence: Presence | None) -> RecipeVersion:
        """The same recipe with another presence gate, or none, not yet committed."""
        return replace(self, document=msgspec.structs.replace(self.document, presence=presence), sha="")

    def commit(self) -> RecipeVersion:
        """Writes this version and puts it in force; older versions' weights are removed after that.

        A crash at any moment leaves the old version or the new one, whole. Raises RecipeError when the disk
        refuses.
        """
        contents = {
            self.document.teacher.weights.file: to_bytes(self.teacher),
            self.document.student.file: to_bytes(self.student),
        }
        if self.document.quantised and self.quantised is not None:
            contents[self.document.quantised.weights.file] = to_bytes(self.quantised)
        text = msgspec.json.format(msgspec.json.encode(self.document), indent=1) + b"\n"
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with _locked(self.folder):
                for name, content in contents.items():
                    write_whole(self.folder / name, content)
                write_whole(self.folder / FILE, text)
                for file in self.folder.iterdir():
                    if file.name not in contents and _LEFT_OVER.match(file.name):
                        file.unlink(missing_ok=True)
        except OSError as error:
            raise RecipeError(f"{self.folder}: can't be written: {error.strerror or error}") from None
        return replace(self, sha=hashlib.sha256(text).hexdigest())


_LEFT_OVER = re.compile(rf"(student|teacher|quantised)-[0-9a-f]{{16}}\.safetensors$|{re.escape(WRITING)}")
"""Weights of other versions, and files that a crash left half written."""


def weights_file(kind: Literal["teacher", "student", "quantised"], weights: Weights) -> WeightsFile:
    """What `recipe.json` says about weights that `RecipeVersion.commit` is going to write."""
    sha = hashlib.sha256(to_bytes(weights)).hexdigest()
    return WeightsFile(file=f"{kind}-{sha[:16]}.safetensors", sha256=sha)


def _folder(path: Path) -> Path:
    if path.name == FILE and not path.is_dir():
        path = path.parent
    return path.absolute()


def _read(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except FileNotFoundError:
        fix = "train the recipe" if file.name == FILE else "train the recipe again or restore the file"
        raise RecipeError(f"{file}: no such file: {fix}") from None
    except OSError as error:
        raise RecipeError(f"{file}: {error.strerror or error}") from None


def _assemble(folder: Path, content: bytes) -> RecipeVersion:
    file = folder / FILE
    try:
        document = msgspec.json.decode(content, type=Document)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise RecipeError(f"{file}: not a recipe ({error}): train it again or restore the file") from None
    check_document(file, document)
    teacher = _load_weights(folder, document.teacher.weights)
    if fingerprint(teacher) != document.teacher.sha256:
        raise RecipeError(
            f"{folder / document.teacher.weights.file}: not the teacher this recipe was trained with "
            f"({document.teacher.name}, sha256 {document.teacher.sha256[:16]}...): train the recipe again"
        )
    student = _load_weights(folder, document.student)
    quantised = _load_weights(folder, document.quantised.weights) if document.quantised else None
    return RecipeVersion(folder, document, hashlib.sha256(content).hexdigest(), teacher, student, quantised)


def _load_weights(folder: Path, entry: WeightsFile) -> Weights:
    file = folder / entry.file
    content = _read(file)
    if hashlib.sha256(content).hexdigest() != entry.sha256:
        raise RecipeError(
            f"{file}: damaged, its sha256 is not the one in {FILE}: "
            "train the recipe again or restore the file"
        )
    try:
        weights = from_bytes(content)
    except WeightsError as error:
        raise RecipeError(f"{file}: {error}: train the recipe again") from None
    # A network may make an ordinary number of one that is none: OpenVINO's rectifier gives 0.
    if not all(np.isfinite(array).all() for array in weights.values() if array.dtype.kind == "f"):
        raise RecipeError(f"{file}: holds values that are not finite: train the recipe again")
    return weights


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """One commit at a time: another one's clearing up would take the weights this one just wrote."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
