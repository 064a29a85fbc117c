"""The page behind a TLS proxy on the same machine: by which address browsers reach it, and who they are.

It knows nothing of what the pages show. Only `review.public_url` decides by which other name the page may be
opened, never a header: a foreign page in a browser on this machine can set any header.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

_PORTS = {"http": 80, "https": 443}
_Environ = dict[str, Any]
_Wsgi = Callable[[_Environ, Any], Iterable[bytes]]


@dataclass(frozen=True, slots=True)
class PublicAddress:
    """`review.public_url`, taken apart."""

    scheme: str
    host: str
    port: int
    path: str
    """The path below which the page lies, as `/line1`; empty where it lies at the top."""

    @staticmethod
    def parse(url: str) -> PublicAddress:
        """The address of a URL that the settings have checked."""
        parts = urlsplit(url)
        return PublicAddress(
            parts.scheme, parts.hostname or "", parts.port or _PORTS[parts.scheme], parts.path.rstrip("/")
        )

    def is_host(self, host_header: str) -> bool:
        """Whether a Host header names the proxy. A proxy may pass it on without the port."""
        host, port = _split(f"{self.scheme}://{host_header}")
        return host == self.host and port in (self.port, _PORTS[self.scheme])

    def is_origin(self, origin: str) -> bool:
        """Whether an Origin header names the page as the proxy serves it."""
        return origin.startswith(f"{self.scheme}://") and _split(origin) == (self.host, self.port)


def _split(url: str) -> tuple[str, int]:
    """The host and the port of a URL; no host where it can't be read, or where there is more than these."""
    try:
        parts = urlsplit(url)
        if "@" in parts.netloc or parts.netloc != url.partition("://")[2]:
            return "", 0
        # A name with a dot at its end is the same name.
        return (parts.hostname or "").removesuffix("."), parts.port or _PORTS.get(parts.scheme, 0)
    except ValueError:
        return "", 0


def is_loopback(address: str) -> bool:
    try:
        found = ipaddress.ip_address(address)
    except ValueError:
        return False
    # A server on both kinds of address sees an IPv4 client as ::ffff:127.0.0.1.
    return (getattr(found, "ipv4_mapped", None) or found).is_loopback


class ProxiedApplication:
    """The page's WSGI application behind a proxy: forwarded headers count from this machine alone."""

    def __init__(self, application: _Wsgi, public: PublicAddress) -> None:
        self._application, self._public = application, public

    def __call__(self, environ: _Environ, start_response: Any) -> Iterable[bytes]:
        peer = environ.get("REMOTE_ADDR", "")
        if is_loopback(peer):
            environ["monitor.proxy"] = peer
            environ["REMOTE_ADDR"] = _client(environ.get("HTTP_X_FORWARDED_FOR", "")) or peer
            if _last(environ.get("HTTP_X_FORWARDED_PROTO", "")) == self._public.scheme:
                environ["wsgi.url_scheme"] = self._public.scheme
        path = self._public.path
        # A proxy passes the path on with or without the part that belongs to this page.
        if path:
            environ["SCRIPT_NAME"] = path
            inside = environ.get("PATH_INFO", "")
            if inside == path or inside.startswith(f"{path}/"):
                environ["PATH_INFO"] = inside[len(path) :] or "/"
        return self._application(environ, start_response)


def _last(header: str) -> str:
    """The value that the nearest proxy added."""
    return header.rpartition(",")[2].strip()


def _client(forwarded_for: str) -> str:
    """The client's address as the proxy saw it; empty where that is no address."""
    address = _last(forwarded_for)
    try:
        return str(ipaddress.ip_address(address.strip("[]")))
    except ValueError:
        return ""
