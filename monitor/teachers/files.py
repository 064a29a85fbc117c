"""Where teachers' weights lie: the data folder, torch's download cache, torchvision's server, this package.

Finds the files and brings them here, whole and checked; what is in them is
`monitor.teachers.architectures`'s business. Must
never ask a network unless it is told to, nor wait longer than a few seconds for one that is not there.
torchvision, which knows the addresses, is imported only where it is needed.
"""

from __future__ import annotations

import hashlib
import queue
import threading
import urllib.request
from collections.abc import Callable
from enum import StrEnum
from http.client import HTTPException, HTTPResponse
from pathlib import Path

import torch

from monitor.errors import LineMonitorError
from monitor.system.atomic_file import open_whole

BUNDLED = "resnet18-bundled"
BUNDLED_FILE = Path(__file__).parent / f"{BUNDLED}.safetensors"
SUFFIXES = (".safetensors", ".pth")

Download = Callable[[str, Path], None]
"""Brings a URL into a file, whole or not at all, or raises TeacherError."""

_NO_NETWORK_S = 5.0
"""How long the network may take to answer at all; without one, a training run starts this much later."""
_STALL_S = 15.0


class TeacherError(LineMonitorError):
    """There is no such teacher, or its weights can't be used; the message is one line with the fix."""


class Place(StrEnum):
    """Where a teacher's weights are found, the first of these that has them."""

    CARRIED = "carried"
    """With this program."""
    DATA = "data folder"
    CACHE = "torch's cache"


def located(name: str, folder: Path | None, *, bundled: Path = BUNDLED_FILE) -> tuple[Place, Path] | None:
    """The file with a teacher's weights on this machine; None when there is none. Asks no network.

    `name` is an architecture or `resnet18-bundled`; `folder` is the data folder's `teachers/`, if there is
    one. Raises TeacherError for a file in torch's cache that is not what was published.
    """
    if name == BUNDLED:
        return Place.CARRIED, bundled
    if folder is not None:
        for suffix in SUFFIXES:
            if _there(file := folder / (name + suffix)):
                return Place.DATA, file
    cached = _cached(_address(name))
    if not _there(cached):
        return None
    if not _whole(cached):
        raise TeacherError(f"{cached} is damaged: delete it")
    return Place.CACHE, cached


def obtained(
    architecture: str, folder: Path | None, say: Callable[[str], None], download: Download | None = None
) -> Path:
    """The file with torchvision's ImageNet weights, downloaded if need be. Raises TeacherError.

    Looks as `located` does, then asks the network; `say` hears of that beforehand.
    """
    if here := located(architecture, folder):
        return here[1]
    url = _address(architecture)
    cached = _cached(url)
    say(f"teacher: looking for ImageNet weights of {architecture} at {url}")
    (download or fetch)(url, cached)
    if not _whole(cached):
        cached.unlink()
        raise TeacherError(f"what came from {url} is damaged or something else: try again, or by other ways")
    return cached


def fetch(url: str, file: Path) -> None:
    """Downloads `url` to `file`, whole or not at all. Raises TeacherError, after a few seconds at most when
    nothing answers: name resolution has no time limit of its own, so it is waited for in a thread."""
    answers: queue.SimpleQueue[HTTPResponse | Exception] = queue.SimpleQueue()

    def ask() -> None:
        try:
            answers.put(urllib.request.urlopen(url, timeout=_STALL_S))
        except (OSError, HTTPException) as error:
            answers.put(error)

    threading.Thread(target=ask, daemon=True).start()
    try:
        answer = answers.get(timeout=_NO_NETWORK_S)
    except queue.Empty:
        raise TeacherError(f"{url} did not answer within {_NO_NETWORK_S:.0f} s") from None
    if isinstance(answer, Exception):
        raise TeacherError(f"{url} can't be downloaded ({getattr(answer, 'reason', None) or answer})")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with answer, open_whole(file) as out:
            while chunk := answer.read(1 << 20):
                out.write(chunk)
    except (OSError, HTTPException) as error:
        raise TeacherError(f"{url} can't be downloaded ({error})") from None


def _address(architecture: str) -> str:
    import torchvision.models

    # The first version of the weights: the later ones classify better and tell textures apart worse.
    url: str = torchvision.models.get_model_weights(architecture)["IMAGENET1K_V1"].url
    return url


def _cached(url: str) -> Path:
    return Path(torch.hub.get_dir()) / "checkpoints" / url.rsplit("/", 1)[-1]


def _there(file: Path) -> bool:
    """Raises TeacherError where nobody may look."""
    try:
        return file.is_file()
    except OSError as error:
        raise TeacherError(f"{file}: {error.strerror or error}") from None


def _whole(file: Path) -> bool:
    """torchvision ends the name with the first digits of the file's sha256. Raises TeacherError."""
    try:
        with file.open("rb") as content:
            found = hashlib.file_digest(content, "sha256").hexdigest()
    except OSError as error:
        raise TeacherError(f"{file}: {error.strerror or error}") from None
    return found.startswith(file.stem.rsplit("-", 1)[-1])
