"""Access to the page: the password's hash, signed sessions, and tokens against forms of other sites.

It knows nothing of HTTP. A page that only this machine can reach needs no password. A password must never be
stored, and secrets must only be compared in constant time.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import ipaddress
import re
import secrets
from collections.abc import Callable
from dataclasses import dataclass

from monitor.settings import ReviewSettings

MIN_LENGTH = 8
SESSION_S = 7 * 86_400.0
ACCOUNT_SESSION_S = 12 * 3600.0
"""A session of a named account ends after a long shift."""
_N, _R, _P = 2**15, 8, 1
_MEMORY = 64 * 1024 * 1024
_HASH = re.compile(
    r"scrypt:(\d{1,8}):(\d{1,3}):(\d{1,3}):([A-Za-z0-9+/=]{16,64}):([A-Za-z0-9+/=]{40,128})", re.ASCII
)
_LOCAL_NAMES = frozenset({"localhost", "127.0.0.1", "[::1]"})
_MAX_NAME_LENGTH = 32


def hash_password(password: str) -> str:
    """The hash for the settings. Raises ValueError for a password that is too short."""
    if len(password) < MIN_LENGTH:
        raise ValueError(f"a password has at least {MIN_LENGTH} characters")
    salt = secrets.token_bytes(16)
    derived = _scrypt(password, salt, _N, _R, _P)
    return f"scrypt:{_N}:{_R}:{_P}:{base64.b64encode(salt).decode()}:{base64.b64encode(derived).decode()}"


def is_hash(text: str) -> bool:
    """Whether `verify` accepts the hash: the format of `hash_password`, with costs within bounds."""
    match = _HASH.fullmatch(text)
    if match is None:
        return False
    n, r, p = (int(match[i]) for i in (1, 2, 3))
    return n >= 2**14 and n & (n - 1) == 0 and 0 < r <= 16 and 0 < p <= 4 and 128 * n * r <= _MEMORY


def verify(password: str, hashed: str) -> bool:
    match = _HASH.fullmatch(hashed)
    if match is None or not is_hash(hashed):
        return False
    try:
        salt, expected = base64.b64decode(match[4], validate=True), base64.b64decode(match[5], validate=True)
    except binascii.Error:
        return False
    return hmac.compare_digest(_scrypt(password, salt, int(match[1]), int(match[2]), int(match[3])), expected)


def _scrypt(password: str, salt: bytes, n: int, r: int, p: int) -> bytes:
    return hashlib.scrypt(password.encode(), salt=salt, n=n, r=r, p=p, maxmem=2 * _MEMORY, dklen=32)


def is_local(host: str) -> bool:
    """Whether only this machine can reach a page on that host."""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def refusal(settings: ReviewSettings, *, has_accounts: bool = False) -> str | None:
    """The reason why the page may not be served, in one line with the fix; None if it may be served."""
    if has_accounts:
        return None
    hashed = settings.password_hash.get_secret_value() if settings.password_hash else None
    if hashed is not None and not is_hash(hashed):
        return (
            "review.password_hash (or the credential review_password) is not a password hash: "
            "make one with `line-monitor review --hash-password`"
        )
    if hashed is None and not is_local(settings.host):
        return (
            f'review.host = "{settings.host}" can be reached by others: add accounts (`line-monitor accounts '
            "add`), or set review.password_hash (`line-monitor review --hash-password` makes one), or "
            'host = "127.0.0.1", or port = 0'
        )
    return None


def is_local_name(host_header: str, bound: str) -> bool:
    """Whether a Host header names this machine. Another name may come from a foreign page (DNS rebinding).

    `bound` is the local address that the page is served on.
    """
    own = f"[{bound}]" if ":" in bound else bound
    return re.sub(r":\d{1,5}$", "", host_header.lower()) in {*_LOCAL_NAMES, own.lower()}


@dataclass(frozen=True, slots=True)
class Session:
    """A browser's session. `known` is true once the right password was given."""

    id: str
    known: bool
    by: str
    """The name that labels carry: of a named account, or as a person typed it."""
    mark: str = ""
    """`Account.mark` of the named account; empty for the one password of a line without accounts."""


class Sessions:
    """Signed cookies; the server stores nothing. Sessions outlive this process if `secret` stays the same."""

    def __init__(self, secret: bytes, clock: Callable[[], float]) -> None:
        self._secret, self._clock = secret, clock

    def issue(self, *, known: bool, by: str, mark: str = "") -> str:
        """The cookie of a new session, with the fields of `Session`."""
        name = base64.urlsafe_b64encode(tidy_name(by).encode()).decode().rstrip("=")
        expires = int(self._clock() + (ACCOUNT_SESSION_S if mark else SESSION_S))
        text = f"{int(known)}.{secrets.token_hex(16)}.{expires}.{name}.{mark}"
        return f"{text}.{self._sign('session', text)}"

    def read(self, cookie: str) -> Session | None:
        """The cookie's session; None where the cookie is missing, forged or expired."""
        text, _, signature = cookie.rpartition(".")
        if not _equal(signature, self._sign("session", text)):
            return None
        # A cookie of an earlier version of this program has no mark.
        known, id_, expires, name, mark = (*text.split("."), "")[:5]
        if self._clock() > int(expires):
            return None
        by = base64.urlsafe_b64decode(name + "=" * (-len(name) % 4)).decode()
        return Session(id_, known == "1", by, mark)

    def token(self, session: Session) -> str:
        """The token in this session's forms; another site can't know it."""
        return self._sign("form", session.id)

    def is_token(self, session: Session, token: str) -> bool:
        return _equal(token, self.token(session))

    def _sign(self, purpose: str, text: str) -> str:
        return hmac.new(self._secret, f"{purpose}:{text}".encode(), hashlib.sha256).hexdigest()


def secret_of(password_hash: str | None) -> bytes:
    """The key that signs sessions while there are no accounts.

    It comes from the password's hash: sessions outlive a restart, and end when the password changes.
    """
    if password_hash is None:
        return secrets.token_bytes(32)
    return hashlib.sha256(b"line-monitor review sessions\0" + password_hash.encode()).digest()


def tidy_name(name: str) -> str:
    """The name or initials as they are stored: printable characters only, at most 32."""
    kept = "".join(letter for letter in name if letter.isprintable())
    return " ".join(kept.split())[:_MAX_NAME_LENGTH]


def _equal(given: str, right: str) -> bool:
    return hmac.compare_digest(given.encode(), right.encode())
