"""The name of the account that this process runs under, for records of who did something.

It knows nothing of the accounts of the page.
"""

from __future__ import annotations

import os
import pwd


def login_name() -> str:
    """The name; `uid N` for an account without one, as in some containers."""
    uid = os.getuid()
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"uid {uid}"
