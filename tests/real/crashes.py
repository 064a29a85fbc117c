"""A process that ends between two steps on the disk, as after kill -9 or in a power failure."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest

_CRASHED, _FAILED = 9, 1


def run_until_crash(act: Callable[[], object], steps: Sequence[tuple[Any, str]], most: int) -> Iterator[None]:
    """Runs `act` in a child process that ends at the first step, then in one that ends at the second, and so
    on until one gets to its end. Yields after each child.

    `steps` are the functions that are counted, each as its module or class and its name.
    """
    for last in range(most):
        child = os.fork()
        if child == 0:
            left = iter(range(last))
            for place, name in steps:
                setattr(place, name, _counted(getattr(place, name), left))
            code = _FAILED
            try:
                act()
                code = 0
            finally:
                os._exit(code)
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        assert code in (0, _CRASHED)
        yield
        if code == 0:
            return
    pytest.fail(f"it takes more than {most} steps")


def _counted(real: Any, left: Iterator[int]) -> Any:
    def step(*args: Any, **named: Any) -> Any:
        if next(left, None) is None:
            os._exit(_CRASHED)
        return real(*args, **named)

    return step
