"""A student learns in bfloat16 on processors with matrix units for it, and nowhere else."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from monitor.training.student_precision import StudentPrecision, choose_precision

CPU = torch.device("cpu")


def processor(folder: Path, flags: str) -> Path:
    file = folder / "cpuinfo"
    file.write_text(f"processor\t: 0\nmodel name\t: some processor\nflags\t\t: {flags}\n\nprocessor\t: 1\n")
    return file


def test_matrix_units_learn_in_bfloat16(tmp_path: Path) -> None:
    file = processor(tmp_path, "fpu avx512f avx512_bf16 amx_bf16 amx_tile amx_int8")
    assert choose_precision(CPU, as_paper=False, processor=file) is StudentPrecision.BF16
    assert choose_precision(CPU, as_paper=True, processor=file) is StudentPrecision.F32
    assert choose_precision(torch.device("cuda"), as_paper=False, processor=file) is StudentPrecision.F32


@pytest.mark.parametrize("flags", ["fpu avx512f avx512_bf16", "fpu avx2", ""])
def test_other_processors_learn_in_float32(tmp_path: Path, flags: str) -> None:
    file = processor(tmp_path, flags)
    assert choose_precision(CPU, as_paper=False, processor=file) is StudentPrecision.F32


def test_a_system_that_lists_no_flags_learns_in_float32(tmp_path: Path) -> None:
    assert choose_precision(CPU, as_paper=False, processor=tmp_path / "none") is StudentPrecision.F32
    (tmp_path / "arm").write_text("processor\t: 0\nFeatures\t: fp asimd\n")
    assert choose_precision(CPU, as_paper=False, processor=tmp_path / "arm") is StudentPrecision.F32
