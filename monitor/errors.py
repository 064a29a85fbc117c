"""The one base class of all expected errors.

It knows nothing of the causes. The command line catches it in one place and prints its message.
"""

from __future__ import annotations


class LineMonitorError(Exception):
    """An expected failure. The message is one line that names the thing and the fix."""
