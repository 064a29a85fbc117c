"""What the processor can do is read from the system's list."""

from __future__ import annotations

from pathlib import Path

import pytest

from monitor.system.processor import describe_processor, has_native_bf16, read_flags


def listed(folder: Path, line: str, name: str = "some processor") -> Path:
    file = folder / "cpuinfo"
    file.write_text(f"processor\t: 0\nmodel name\t: {name}\n{line}\n\nprocessor\t: 1\n{line} other\n")
    return file


@pytest.mark.parametrize(
    ("line", "has"),
    [
        ("flags\t\t: fpu avx512f avx512_bf16", True),
        ("flags\t\t: fpu amx_bf16 amx_tile", True),
        ("Features\t: fp asimd bf16", True),
        ("flags\t\t: fpu avx2", False),
        ("", False),
    ],
)
def test_bfloat16_is_native_where_its_instructions_are_listed(tmp_path: Path, line: str, has: bool) -> None:
    assert has_native_bf16(listed(tmp_path, line)) is has


def test_a_system_that_lists_nothing_has_nothing(tmp_path: Path) -> None:
    assert read_flags(tmp_path / "none") == frozenset()
    assert not has_native_bf16(tmp_path / "none")
    assert describe_processor(tmp_path / "none").startswith("unknown processor")


def test_processors_of_one_name_are_told_apart_by_their_flags(tmp_path: Path) -> None:
    first = describe_processor(listed(tmp_path, "flags\t\t: fpu avx2"))
    second = describe_processor(listed(tmp_path, "flags\t\t: fpu avx512_bf16"))
    assert first.startswith("some processor")
    assert first != second
