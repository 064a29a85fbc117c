"""This machine's processor: its name, and the instructions that it lists.

It knows nothing of networks. Linux lists both in /proc/cpuinfo.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

CPUINFO = Path("/proc/cpuinfo")
_FLAGS = ("flags", "Features")
"""The names of the line with the instructions, on x86 and on ARM."""
_NATIVE_BF16 = frozenset({"avx512_bf16", "amx_bf16", "bf16"})
"""The flags of processors that multiply bfloat16 numbers."""


def read_flags(file: Path = CPUINFO) -> frozenset[str]:
    """The flags of the first processor; empty where the system does not list them."""
    return frozenset(_read_line(file, _FLAGS).split())


def has_native_bf16(file: Path = CPUINFO) -> bool:
    """Whether the processor computes in bfloat16 natively. Elsewhere bfloat16 is slower than float32."""
    return not _NATIVE_BF16.isdisjoint(read_flags(file))


def processor_name(file: Path = CPUINFO) -> str:
    """The processor's name, as the system lists it."""
    return _read_line(file, ("model name",)) or "unknown processor"


def describe_processor(file: Path = CPUINFO) -> str:
    """The processor's name and a mark of its flags: virtual machines give one name to several processors."""
    return f"{processor_name(file)} ({hashlib.sha256(_read_line(file, _FLAGS).encode()).hexdigest()[:8]})"


def _read_line(file: Path, names: tuple[str, ...]) -> str:
    """The value of the first line with one of these names; empty without such a line."""
    try:
        lines = file.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return ""
    return next((line.partition(":")[2].strip() for line in lines if line.startswith(names)), "")
