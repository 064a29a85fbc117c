"""What is known of one recipe's training in the fleet, as a file in the data folder: who began it, and its
result.

It knows nothing of Ray or of networks. By the record a driver that is started anew with the same manifest
leaves out what is taught already. The process that teaches a recipe holds its lock, so that two never write
one recipe.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import time
from collections.abc import Callable, Iterator, Mapping
from enum import StrEnum
from pathlib import Path

import msgspec

from drivers import image_file
from drivers.image_file import ImageError
from monitor.fleet.fleet_error import FleetError
from monitor.model.recipe_json import FILE, Document, Training
from monitor.system.atomic_file import write_whole

FOLDER = "fleet"
"""The folder of the records in the data folder."""
_LOCK_WAIT_S = 60.0
"""Ray ends the process of a dead driver within seconds, and only then another may teach the same recipe."""


class TrainingState(StrEnum):
    """How the training of one entry of a manifest has ended."""

    TRAINED = "trained"
    UNCHANGED = "unchanged"
    """The recipe was taught before from the same images and settings."""
    FAILED = "failed"


class TrainingResult(msgspec.Struct, frozen=True, kw_only=True):
    """The result of one entry of a manifest: a row of the results."""

    recipe: str
    state: TrainingState
    message: str = ""
    """Why it has failed, in one line."""
    recipe_sha: str = ""
    """sha256 of its `recipe.json`."""
    threshold: float | None = None
    guarantee: float | None = None
    """The rate of overkill that the threshold guarantees; null where it guarantees none."""
    statement: str = ""
    images: int | None = None
    epochs: int | None = None
    best_epoch: int | None = None
    seed: int | None = None
    seconds: float | None = None
    """The time from the last start or resumption to the end."""
    node: str = ""
    starts: int = 0
    """How often the training began with its first epoch."""
    resumed_at: tuple[int, ...] = ()
    """The epochs at which it was resumed from a checkpoint."""
    utc: str = ""


class TrainingRecord(msgspec.Struct, frozen=True, kw_only=True):
    """The file of one recipe."""

    schema: int = 1
    fingerprint: str
    """`make_fingerprint` of what is taught."""
    utc_before: str = ""
    """The time of the training of the recipe that was there when this one began; empty: there was none."""
    starts: int = 0
    resumed_at: tuple[int, ...] = ()
    node: str = ""
    """Where the training began or went on last."""
    result: TrainingResult | None = None
    """None until the recipe is committed."""


def record_file(records: Path, recipe: str) -> Path:
    return records / f"{recipe}.json"


def read_record(file: Path) -> TrainingRecord | None:
    """The record; None where there is none that can be read."""
    try:
        return msgspec.json.decode(file.read_bytes(), type=TrainingRecord)
    except (OSError, msgspec.DecodeError):
        # A damaged record costs one training, which gives the same recipe again.
        return None


def write_record(file: Path, record: TrainingRecord) -> None:
    """Raises FleetError."""
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        write_whole(file, msgspec.json.format(msgspec.json.encode(record), indent=1) + b"\n")
    except OSError as error:
        raise FleetError(f"{file}: can't be written: {error.strerror or error}; see line.data") from None


@contextlib.contextmanager
def hold_lock(records: Path, recipe: str, clock: Callable[[], float] = time.monotonic) -> Iterator[None]:
    """Holds the recipe's lock. Raises FleetError where another process keeps it."""
    file = records / f"{recipe}.lock"
    try:
        records.mkdir(parents=True, exist_ok=True)
        handle = os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise FleetError(f"{file}: can't be written: {error.strerror or error}; see line.data") from None
    until = clock() + _LOCK_WAIT_S
    try:
        while True:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if clock() >= until:
                    raise FleetError(
                        f"another process teaches {recipe!r} ({file} is locked): wait for it, or stop it"
                    ) from None
                time.sleep(0.2)
            else:
                break
        yield
    finally:
        # Closing the file frees the lock.
        os.close(handle)


def make_fingerprint(arguments: tuple[str, ...], versions: Mapping[str, str], files: tuple[Path, ...]) -> str:
    """What decides a training's result: its arguments, the versions of the programs, and the files in these
    files and folders by name, size and time. Raises FleetError for a folder that can't be listed."""
    digest = hashlib.sha256(repr((arguments, sorted(versions.items()))).encode())
    for place in files:
        for file in _list_files(place):
            try:
                found = file.stat()
            except OSError:
                # `train` names a file that can't be read.
                continue
            digest.update(f"{file}\0{found.st_size}\0{found.st_mtime_ns}\n".encode(errors="surrogateescape"))
    return digest.hexdigest()


def _list_files(place: Path) -> list[Path]:
    if not place.is_dir():
        return [place]
    try:
        return image_file.find(place)
    except ImageError as error:
        raise FleetError(f"{place}: {error}") from None


def trained_document(recipe: Path) -> tuple[Document, Training, str] | None:
    """The document of a recipe's folder, its training and its sha256; None where none can be read."""
    try:
        content = (recipe / FILE).read_bytes()
        document = msgspec.json.decode(content, type=Document)
    except (OSError, msgspec.DecodeError):
        return None
    if document.training is None:
        return None
    return document, document.training, hashlib.sha256(content).hexdigest()


def training_utc(recipe: Path) -> str:
    """The time of a recipe's training; empty where there is no such recipe."""
    found = trained_document(recipe)
    return found[1].utc if found else ""


def is_taught(record: TrainingRecord | None, fingerprint: str, utc: str, *, has_checkpoint: bool) -> bool:
    """Whether the recipe whose training is of the time `utc` is what the fingerprint asks for.

    A process that dies between the commit and the record leaves a recipe that is newer than the one before,
    and no checkpoint.
    """
    if record is None or record.fingerprint != fingerprint or not utc:
        return False
    if record.result is not None:
        return record.result.utc == utc
    return utc != record.utc_before and not has_checkpoint
