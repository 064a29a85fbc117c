"""The `Authorization` header that answers an RTSP camera's challenge: Digest (RFC 2617, RFC 7616) or Basic.

It knows nothing of connections.
"""

from __future__ import annotations

import base64
import hashlib
import re
import secrets
from collections.abc import Callable
from urllib.parse import unquote

_HASHES: dict[str, Callable[[bytes], str]] = {
    "MD5": lambda data: hashlib.md5(data, usedforsecurity=False).hexdigest(),
    "SHA-256": lambda data: hashlib.sha256(data).hexdigest(),
}


def authorization(challenges: list[str], login: str, method: str, uri: str, number: int) -> str | None:
    """The header's value for `login` (`user:password`, percent-encoded as in a URL); None without a challenge
    that can be answered. `number` counts the requests."""
    user, _, password = (unquote(part) for part in login.partition(":"))
    for challenge in sorted(challenges, key=lambda text: not text.lower().startswith("digest")):
        scheme, _, rest = challenge.partition(" ")
        if scheme.lower() == "digest":
            fields = _read_fields(rest)
            if (digest := _HASHES.get(fields.get("algorithm", "MD5").upper())) is not None:
                return _answer_digest(fields, digest, (user, password), f"{method}:{uri}", number)
        elif scheme.lower() == "basic":
            return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()
    return None


def _read_fields(text: str) -> dict[str, str]:
    found = re.findall(r'([\w-]+)\s*=\s*(?:"([^"]*)"|([^\s,]*))', text)
    return {name.lower(): quoted or plain for name, quoted, plain in found}


def _answer_digest(
    fields: dict[str, str], digest: Callable[[bytes], str], login: tuple[str, str], request: str, number: int
) -> str:
    realm, nonce = fields.get("realm", ""), fields.get("nonce", "")
    secret = digest(f"{login[0]}:{realm}:{login[1]}".encode())
    asked = digest(request.encode())
    given = {"username": login[0], "realm": realm, "nonce": nonce, "uri": request.partition(":")[2]}
    if "auth" in [choice.strip() for choice in fields.get("qop", "").split(",")]:
        mine = secrets.token_hex(8)
        given["response"] = digest(f"{secret}:{nonce}:{number:08x}:{mine}:auth:{asked}".encode())
        extra = f', qop=auth, nc={number:08x}, cnonce="{mine}"'
    else:
        given["response"] = digest(f"{secret}:{nonce}:{asked}".encode())
        extra = ""
    if "opaque" in fields:
        given["opaque"] = fields["opaque"]
    if "algorithm" in fields:
        extra += f", algorithm={fields['algorithm']}"
    return "Digest " + ", ".join(f'{name}="{value}"' for name, value in given.items()) + extra
