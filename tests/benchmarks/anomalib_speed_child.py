"""Measures Anomalib's inferencers on frames. `speed_beside_anomalib` runs it in Anomalib's own environment.

It prints "ready" when both are warmed up. For each line `torch N`, `openvino N` (float32) or `bf16 N`
(OpenVINO's default: bfloat16 if the processor has it) on stdin it prints the milliseconds that `predict` took
for frame N. The networks are untrained, because the time does not depend on the weights. It imports nothing
of Line Monitor.
"""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from anomalib.deploy import OpenVINOInferencer, TorchInferencer
from anomalib_child import model

SIZE = 256


def main() -> int:
    frames = np.load(sys.argv[1], mmap_mode="r")
    os.environ["TRUST_REMOTE_CODE"] = "1"  # the file is written by this script
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(sys.stderr):
        stfpm = model(SIZE).eval()
        at_torch = stfpm.to_torch(Path(folder))
        at_openvino = stfpm.to_openvino(Path(folder))
        ways = {
            "torch": TorchInferencer(at_torch, device="cpu"),
            "openvino": OpenVINOInferencer(
                at_openvino, device="CPU", config={"INFERENCE_PRECISION_HINT": "f32"}
            ),
            "bf16": OpenVINOInferencer(at_openvino, device="CPU"),
        }
        for way in ways.values():
            for _ in range(3):
                way.predict(np.array(frames[0]))
    print("ready", flush=True)
    for line in sys.stdin:
        name, number = line.split()
        frame = np.array(frames[int(number)])
        began = time.perf_counter()
        ways[name].predict(frame)
        print(1000 * (time.perf_counter() - began), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
