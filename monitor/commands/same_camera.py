"""Finds one camera that two tables of the settings name, for `check`.

It opens no camera. The settings themselves refuse two equal GigE Vision sources.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import combinations

from drivers.camera import CameraError
from drivers.device_identity import are_one_device, is_exclusive
from drivers.source import Options, redacted
from monitor.settings import CameraSettings


def find_shared(cameras: Sequence[CameraSettings]) -> Iterator[str]:
    """One line for each two cameras that read one stream, folder or clip."""
    for one, other in combinations(cameras, 2):
        if are_one_device(one.source, other.source):
            yield (
                f"{one.name!r} and {other.name!r} both read {redacted(one.source)}: right for two recipes or "
                "regions of one image, else correct the source of one"
            )


def find_contended(cameras: Sequence[CameraSettings]) -> Iterator[str]:
    """One line for each two cameras whose sources are two names of one GigE Vision camera in the network."""
    gige = [camera for camera in cameras if is_exclusive(camera.source)]
    if len(gige) < 2:
        return
    from drivers.gige import discover, find_addresses

    try:
        found = discover()
        addresses = {camera.name: find_addresses(Options(camera.source).host, found) for camera in gige}
    except CameraError:
        # Opening a camera gives the reason why none can be found.
        return
    for one, other in combinations(gige, 2):
        if shared := addresses[one.name] & addresses[other.name]:
            yield (
                f"{one.name!r} and {other.name!r} are one GigE Vision camera at {min(shared)}, which serves "
                "one at a time: correct the source of one, or remove one"
            )
