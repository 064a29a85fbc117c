"""Finds the files of teachers' weights, and downloads the missing ones.

Weights lie in this package, in the data folder, in torch's download cache, or on torchvision's server. A
download is whole and checked, or not there. `obtain_weights` alone uses the network, and gives up after a few
seconds without an answer. This module knows nothing of what is in the files
(`monitor.teachers.architectures`).
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
LITE_TEACHER = "efficientnet-lite0-bundled"
LITE_FILE = Path(__file__).parent / f"{LITE_TEACHER}.safetensors"
SUFFIXES = (".safetensors", ".pth")

Download = Callable[[str, Path], None]
"""Writes what is at a URL to a file, whole or not at all. Raises TeacherError."""

_NO_NETWORK_S = 5.0
"""The longest wait for the first answer. Without a network, a training run starts this much later."""
_STALL_S = 15.0
"""The longest pause within a download."""


class TeacherError(LineMonitorError):
    """There is no such teacher, or its weights can't be used. The message is one line with the fix."""


class WeightsLocation(StrEnum):
    """Where a teacher's weights lie on this machine, in the order in which they are looked for."""

    CARRIED = "carried"
    """In this package."""
    DATA = "data folder"
    CACHE = "torch's cache"


def find_weights(name: str, folder: Path | None) -> tuple[WeightsLocation, Path] | None:
    """The file with a teacher's weights on this machine, or None. Does not use the network.

    `name` is an architecture or `resnet18-bundled`. `folder` is the data folder's `teachers/`, None without a
    data folder. Raises TeacherError for a file in torch's cache that is not the published one.
    """
    if name == BUNDLED:
        return WeightsLocation.CARRIED, BUNDLED_FILE
    if folder is not None:
        for suffix in SUFFIXES:
            if _exists(file := folder / (name + suffix)):
                return WeightsLocation.DATA, file
    cached = _cache_file(_address(name))
    if not _exists(cached):
        return None
    if not _has_published_sha256(cached):
        raise TeacherError(f"{cached} is damaged: delete it")
    return WeightsLocation.CACHE, cached


def obtain_weights(
    architecture: str, folder: Path | None, say: Callable[[str], None], download: Download | None = None
) -> Path:
    """The file with torchvision's ImageNet weights, from this machine or else from the network.

    `say` gets one line before the network is used. Raises TeacherError.
    """
    if found := find_weights(architecture, folder):
        return found[1]
    url = _address(architecture)
    cached = _cache_file(url)
    say(f"teacher: looking for ImageNet weights of {architecture} at {url}")
    (download or download_file)(url, cached)
    if not _has_published_sha256(cached):
        cached.unlink()
        raise TeacherError(
            f"what came from {url} is damaged or another file: try again, or copy it from another machine"
        )
    return cached


def download_file(url: str, file: Path) -> None:
    """Downloads `url` to `file`, whole or not at all. Raises TeacherError.

    Without an answer it gives up after `_NO_NETWORK_S` seconds. Name resolution has no time limit of its own,
    so the connection is opened in a thread that is left behind.
    """
    answers: queue.SimpleQueue[HTTPResponse | Exception] = queue.SimpleQueue()

    def connect() -> None:
        try:
            answers.put(urllib.request.urlopen(url, timeout=_STALL_S))
        except (OSError, HTTPException) as error:
            answers.put(error)

    threading.Thread(target=connect, daemon=True).start()
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
    import torchvision.models  # Only here: a recipe is loaded faster without it.

    # Version 1 of the weights: the later versions classify photographs better, but tell textures apart worse.
    url: str = torchvision.models.get_model_weights(architecture)["IMAGENET1K_V1"].url
    return url


def _cache_file(url: str) -> Path:
    return Path(torch.hub.get_dir()) / "checkpoints" / url.rsplit("/", 1)[-1]


def _exists(file: Path) -> bool:
    """Raises TeacherError where the folder can't be read."""
    try:
        return file.is_file()
    except OSError as error:
        raise TeacherError(f"{file}: {error.strerror or error}") from None


def _has_published_sha256(file: Path) -> bool:
    """Whether the file is the published one: torchvision ends its name with the first digits of its sha256.

    Raises TeacherError for an unreadable file.
    """
    try:
        with file.open("rb") as content:
            found = hashlib.file_digest(content, "sha256").hexdigest()
    except OSError as error:
        raise TeacherError(f"{file}: {error.strerror or error}") from None
    return found.startswith(file.stem.rsplit("-", 1)[-1])
