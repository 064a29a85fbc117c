"""A request of a browser that has opened the page by the public address of a TLS proxy on this machine."""

from __future__ import annotations

import socket
import ssl
from http.client import HTTPResponse, HTTPSConnection
from pathlib import Path

NAME = "line-pc.example"
"""The proxy's name in the handbook. It is in no DNS."""
_CLIENT = "127.0.0.2"
"""It differs from the proxy's address, as the address of a client on the network does."""


def request(
    port: int, ca_file: Path, method: str, path: str, form: str | None, headers: dict[str, str]
) -> tuple[HTTPResponse, str]:
    """The proxy's answer and its text. `ca_file` signs the proxy's certificate."""
    context = ssl.create_default_context(cafile=str(ca_file))
    connection = HTTPSConnection(NAME, port, timeout=10, context=context)
    # The connection is made by address; TLS and Host keep the name.
    plain = socket.create_connection(("127.0.0.1", port), 10, source_address=(_CLIENT, 0))
    connection.sock = context.wrap_socket(plain, server_hostname=NAME)
    own = {"Accept": "text/html"}
    if method == "POST":
        own["Origin"] = f"https://{NAME}:{port}"
    if form is not None:
        own["Content-Type"] = "application/x-www-form-urlencoded"
    try:
        connection.request(method, path, body=form, headers=own | headers)
        answer = connection.getresponse()
        return answer, answer.read().decode(errors="replace")
    finally:
        connection.close()
