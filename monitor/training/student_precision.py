"""The rule by which a student learns in bfloat16: on processors with Intel's matrix units (AMX).

It knows nothing of networks or optimisers. Only the student's convolutions are computed in bfloat16; its
weights, the distances, the loss and all figures stay float32.

The rule looks at the processor alone and measures nothing, so a resumed run on the same machine takes the
same precision. Processors with AVX512-BF16 but without AMX are slower in bfloat16
(`tests/benchmarks/README.md`).
"""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path

import torch

from monitor.system.processor import CPUINFO, read_flags

_MATRIX_UNITS = "amx_bf16"
"""The flag of a processor that multiplies matrices of bfloat16."""


class StudentPrecision(StrEnum):
    F32 = "f32"
    BF16 = "bf16"


def choose_precision(device: torch.device, *, as_paper: bool, processor: Path = CPUINFO) -> StudentPrecision:
    """The precision of the student's convolutions on this machine. The paper's mode is always float32.

    `processor` is a file that lists the processor's flags, as Linux does.
    """
    if as_paper or device.type != "cpu" or _MATRIX_UNITS not in read_flags(processor):
        return StudentPrecision.F32
    return StudentPrecision.BF16
