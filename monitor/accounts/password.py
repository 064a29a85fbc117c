"""Passwords of accounts as salted hashes, made and checked by Werkzeug.

It knows nothing of names. A password must never be stored or logged. Werkzeug is imported with the first
hash: the scoring worker only asks whether there are accounts, and would start 0.3 s later.
"""

from __future__ import annotations

import threading

from monitor.errors import LineMonitorError

MIN_LENGTH, MAX_LENGTH = 8, 200
_METHOD = "scrypt:32768:8:1"
_ONE_AT_A_TIME = threading.Lock()
"""One check takes 32 MB and 0.1 s of a processor."""
_NO_ACCOUNT = (
    f"{_METHOD}$0000000000000000$"
    "0000000000000000000000000000000000000000000000000000000000000000"
    "0000000000000000000000000000000000000000000000000000000000000000"
)
"""A hash that no password has. An unknown name takes as long to refuse as a wrong password."""


class PasswordError(LineMonitorError):
    """The password can't be used. The message is one line with the rule."""


def check_password(password: str) -> None:
    """Raises PasswordError for a password that is too short or too long."""
    if not MIN_LENGTH <= len(password) <= MAX_LENGTH:
        raise PasswordError(f"a password has {MIN_LENGTH} to {MAX_LENGTH} characters")


def hash_password(password: str) -> str:
    """The hash to store. Raises PasswordError."""
    from werkzeug.security import generate_password_hash

    check_password(password)
    return generate_password_hash(password, _METHOD)


def is_password(password: str, hashed: str | None) -> bool:
    """Whether the hash is that of the password; always False for None, in the same time."""
    from werkzeug.security import check_password_hash

    with _ONE_AT_A_TIME:
        try:
            return check_password_hash(hashed or _NO_ACCOUNT, password[:MAX_LENGTH]) and hashed is not None
        except ValueError:
            return False
