"""Tells whether an error means that memory ran out, and what to do: Python, NumPy and torch differ in this.

It must never import torch: where torch is not loaded, another library ran out of memory.
"""

from __future__ import annotations

import sys


def explain_memory_error(error: MemoryError | RuntimeError, *, sized: bool) -> str | None:
    """One line with the fix; None for an error that means something else.

    `sized`: the user can choose the network's input size and --device in this command.
    """
    torch = sys.modules.get("torch")
    if torch is not None and isinstance(error, torch.OutOfMemoryError):
        fix = "use a smaller --size or --device cpu" if sized else 'set device = "cpu" under [scoring]'
        return f"the GPU is out of memory: {fix}, or end what else runs on it"
    if isinstance(error, MemoryError) or "can't allocate memory" in str(error):
        fix = "use a smaller --size, or end" if sized else "end"
        return f"out of memory: {fix} what else runs on this machine"
    return None
