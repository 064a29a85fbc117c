"""What the pages share that ask the publisher for something: who asks, and the wait for the publisher.

It knows nothing of what is asked for.
"""

from __future__ import annotations

from collections.abc import Callable
from http import HTTPStatus

from flask import abort, g, request

from monitor.review.access import tidy_name

PATIENCE_S = 2.0
_LOOK_S = 0.05


def require_name() -> str:
    """Who asks. Ends the request with one line where nobody has signed in or written a name."""
    by: str = g.session.by or tidy_name(request.form.get("by", ""))
    if not by:
        abort(HTTPStatus.BAD_REQUEST, "Write your name or initials beside the button, so that others know.")
    return by


def wait_until_taken(is_taken: Callable[[], bool], sleep: Callable[[float], None], if_late: str) -> None:
    """Waits until the publisher has taken a request. Ends the page's request with one line, of which
    `if_late` is the last sentence, where it has not within 2 s."""
    for _ in range(int(PATIENCE_S / _LOOK_S)):
        if is_taken():
            return
        sleep(_LOOK_S)
    abort(
        HTTPStatus.SERVICE_UNAVAILABLE,
        f"The line has not answered within 2 s: its sending program may be starting again. {if_late}",
    )
