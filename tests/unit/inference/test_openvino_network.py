"""A lane of OpenVINO's that fails ends the scoring worker with its error, as any failed turn does."""

from __future__ import annotations

from queue import SimpleQueue

import pytest

openvino_network = pytest.importorskip("monitor.inference.openvino_network", reason="needs OpenVINO")


class FailedLane:
    """OpenVINO's request after an error in it. A real one can't be made to fail here."""

    def wait_for(self, timeout_ms: int) -> bool:
        return True

    def wait(self) -> None:
        raise RuntimeError("the primitive failed")


def test_a_lane_that_failed_raises_its_error_in_place_of_waiting_for_ever(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(openvino_network, "_LANE_CHECK_S", 0.01)
    network = object.__new__(openvino_network.OpenVinoNetwork)
    network._lanes = [FailedLane()]
    with pytest.raises(RuntimeError, match="the primitive failed"):
        network._next_done(SimpleQueue(), free=())
