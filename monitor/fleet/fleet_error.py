"""The expected errors of the fleet's commands, and the check for the packages of the extra `fleet`.

It knows nothing of what the packages are for.
"""

from __future__ import annotations

import importlib.util

from monitor.errors import LineMonitorError


class FleetError(LineMonitorError):
    """A command of the fleet can't continue. The message has one line for each problem, with the fix."""


def require_packages(*names: str) -> None:
    """Raises FleetError that names the extra where one of the packages is not installed."""
    if missing := [name for name in names if importlib.util.find_spec(name) is None]:
        raise FleetError(
            f'this command needs {", ".join(missing)}: pip install "line-monitor[fleet]" '
            "on this machine and on every node"
        )
