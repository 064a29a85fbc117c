"""`line-monitor teacher`: what teachers are here, one as a file for a plant without a network, making one.

Must never ask a network except in `fetch` and for a source whose weights are nowhere, and never put a file in
the place of another one unless it is told to.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import safetensors.torch
import torch
from safetensors import safe_open

from monitor.model import weights as named
from monitor.system.atomic_file import write_whole
from monitor.system.progress import SILENT, Progress
from monitor.teachers.architectures import (
    LEVELS,
    architecture_of,
    build_trunk,
    load_trunk,
    names,
    trunk_weights,
)
from monitor.teachers.distillation import Distilled, make_teacher
from monitor.teachers.files import BUNDLED, Download, Place, TeacherError, located, obtained

_SAVE_EVERY_S = 60.0
_PUBLISHED = "torchvision's ImageNet weights, version 1"


@dataclass(frozen=True)
class Known:
    """A teacher by name, and what of it is on this machine."""

    name: str
    architecture: str
    parameters: int
    """Of its trunk: weights, without the statistics of batch normalisation."""
    place: Place | None
    """Where its weights were found; None when they are not here or can't be used."""
    sha256: str
    """Of the trunk's weights as recipes hold it; empty without a place."""
    about: str
    """For people: the file and where its weights came from, or what to do."""


def known(folder: Path | None) -> list[Known]:
    """Every teacher that can be named. Asks no network; `folder` is the data folder's `teachers/`."""
    return [_known(name, folder) for name in names()]


def table(teachers: Sequence[Known]) -> str:
    """The list for people, one line a teacher."""
    rows = [("name", "architecture", "parameters", "weights", "sha256", "")]
    for one in teachers:
        place = "-" if one.place is None else one.place.value
        size = f"{one.parameters / 1e6:.1f} M"
        rows.append((one.name, one.architecture, size, place, one.sha256[:16] or "-", one.about))
    widths = [max(len(row[column]) for row in rows) for column in range(5)]
    return "\n".join(
        "  ".join([*(cell.ljust(width) for cell, width in zip(row, widths, strict=False)), row[-1]]).rstrip()
        for row in rows
    )


def fetch_teacher(
    name: str,
    *,
    folder: Path | None,
    out: Path | None,
    force: bool,
    say: Callable[[str], None],
    download: Download | None = None,
) -> Path:
    """Writes a teacher's trunk as one safetensors file, from this machine or the network; returns the file.

    Without `out` it goes to `folder`/<name>.safetensors, where training finds it; a folder as `out` gets a
    file of that name. Raises TeacherError.
    """
    architecture = architecture_of(name)
    file = _target(out or folder, f"{name}.safetensors", named_folder=out is None)
    here = located(name, folder)
    try:
        weights = here[1] if here else obtained(architecture, folder, say, download)
    except TeacherError as error:
        fix = "use this command where there is a network, and copy the file"
        raise TeacherError(f"{error}; {fix}") from None
    trunk = load_trunk(architecture, weights)
    sha256 = named.fingerprint(trunk_weights(trunk))
    if not (file.exists() and _holds(file, architecture, sha256)):
        _make_room(file, force=force)
        content = weights.read_bytes() if name == BUNDLED else _exported(trunk, name, architecture, weights)
        try:
            write_whole(file, content)
        except OSError as error:
            raise TeacherError(f"{file} can't be written: {error.strerror or error}") from None
    say(f"{file}: {name}, sha256 {sha256}")
    use = f"line-monitor train RECIPE --images DIR --teacher {architecture} --teacher-weights {file.name}"
    if name == BUNDLED:
        say(f"every plant has it: --teacher {BUNDLED}; as a file: {use}")
    else:
        say(f"on a machine without a network: copy it into the data folder's teachers/, or {use}")
    return file


def make(
    *,
    source: str,
    source_weights: Path | None,
    student: str,
    out: Path,
    steps: int | None,
    minutes: float | None,
    seed: int,
    bfloat16: bool,
    force: bool,
    folder: Path | None,
    say: Callable[[str], None],
    progress: Progress = SILENT,
    download: Download | None = None,
    save_every_s: float = _SAVE_EVERY_S,
) -> Distilled:
    """Distils a teacher into a small trunk and writes it to `out` (see `make_teacher`).

    The source's weights come from `source_weights`, or as for training. Raises TeacherError, also when it is
    interrupted, with what is left of it.
    """
    if source not in LEVELS:
        raise TeacherError(f"no source is called {source!r}; there are: {', '.join(LEVELS)}")
    file = _target(out, f"{student}-from-{source}.safetensors", named_folder=False)
    if source_weights is None:
        source_weights = obtained(source, folder, say, download)
    load_trunk(source, source_weights)
    _make_room(file, force=force)
    say(f"teacher: {student} learns from {source}, weights from {source_weights}")
    saved: list[str] = []
    try:
        made = make_teacher(
            source=source,
            source_weights=source_weights,
            student=student,
            out=file,
            steps=steps,
            minutes=minutes,
            seed=seed,
            bfloat16=bfloat16,
            save_every_s=save_every_s,
            say=saved.append,
            progress=progress,
        )
    except KeyboardInterrupt:
        raise TeacherError(f"interrupted; {_left(file, saved)}") from None
    except FloatingPointError as error:
        raise TeacherError(f"{error}; try another --seed; {_left(file, saved)}") from None
    except OSError as error:
        raise TeacherError(
            f"{file} can't be written: {error.strerror or error}; {_left(file, saved)}"
        ) from None
    sha256 = named.fingerprint(trunk_weights(load_trunk(student, file)))
    say(f"{saved[-1]}, sha256 {sha256}")
    say(f"use it: line-monitor train RECIPE --images DIR --teacher {student} --teacher-weights {file}")
    return made


def _known(name: str, folder: Path | None) -> Known:
    architecture = architecture_of(name)
    with torch.device("meta"):
        parameters = sum(parameter.numel() for parameter in build_trunk(architecture).parameters())
    try:
        here = located(name, folder)
        if here is None:
            about = f"not on this machine: line-monitor teacher fetch {name}"
            return Known(name, architecture, parameters, None, "", about)
        place, file = here
        sha256 = named.fingerprint(trunk_weights(load_trunk(architecture, file)))
        return Known(name, architecture, parameters, place, sha256, f"{file}{_lineage(place, file)}")
    except TeacherError as error:
        return Known(name, architecture, parameters, None, "", f"unusable: {error}")


def _lineage(place: Place, file: Path) -> str:
    if place is Place.CACHE:
        return f" ({_PUBLISHED})"
    about = _about(file) if file.suffix == ".safetensors" else {}
    if place is Place.CARRIED:
        source = about.get("source", "another network")
        return f" (distilled from {source}; its licence is in {file.parent / 'NOTICE'})"
    return f" ({about['weights']})" if "weights" in about else ""


def _about(file: Path) -> dict[str, str]:
    with safe_open(file, "pt") as content:
        return content.metadata() or {}


def _target(place: Path | None, name: str, *, named_folder: bool) -> Path:
    if place is None:
        raise TeacherError("no settings file, so no data folder: say where with -o FILE, or give --config")
    if named_folder or place.is_dir():
        return place / name
    if place.suffix != ".safetensors":
        raise TeacherError(f"{place}: the file's name must end in .safetensors")
    return place


def _holds(file: Path, architecture: str, sha256: str) -> bool:
    """Whether these very weights are in it already."""
    try:
        return named.fingerprint(trunk_weights(load_trunk(architecture, file))) == sha256
    except TeacherError:
        return False


def _make_room(file: Path, *, force: bool) -> None:
    """Finds out before the work whether the file can be written. Raises TeacherError."""
    if file.exists() and not force:
        raise TeacherError(f"{file} is there already: take another name, or --force to replace it")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=file.parent):
            pass
    except OSError as error:
        raise TeacherError(f"can't write to {file.parent}: {error.strerror or error}") from None


def _exported(trunk: torch.nn.Module, name: str, architecture: str, weights: Path) -> bytes:
    carried = _about(weights) if weights.suffix == ".safetensors" else {}
    about = {
        **carried,
        "format": "pt",
        "teacher": name,
        "architecture": f"torchvision {architecture}, to its third level",
        "weights": carried.get("weights", weights.name),
    }
    tensors = {key: torch.from_numpy(array) for key, array in trunk_weights(trunk).items()}
    return safetensors.torch.save(tensors, metadata=about)


def _left(file: Path, saved: Sequence[str]) -> str:
    """What remains of a run that did not come to its end."""
    if not saved:
        return "nothing was saved yet"
    return f"{file} holds what was learnt until the last save ({saved[-1]})"
