"""A real Caddy on a free port, with TLS by its own authority, before a page on this machine."""

from __future__ import annotations

import os
import shutil
import socket
import ssl
import subprocess
import time
from http.client import HTTPResponse
from pathlib import Path
from types import TracebackType

from tests.real.https_request import NAME, request
from tests.real.port import free_port


def find_caddy() -> str | None:
    """The program, if it is installed."""
    return shutil.which("caddy") or shutil.which("caddy", path="/usr/bin:/usr/local/bin")


class Caddy:
    """`with Caddy(folder, site) as proxy:` serves `https://line-pc.example:<proxy.port>`.

    `site` is a site block as people write it, with the name `line-pc.example`. Only ports, storage and the
    authority of certificates are the test's own.
    """

    def __init__(self, folder: Path, site: str) -> None:
        self._folder, self.port = folder, free_port()
        self.url = f"https://{NAME}:{self.port}"
        folder.mkdir(exist_ok=True)
        self._authority = folder / "storage/pki/authorities/local/root.crt"
        self._config = folder / "Caddyfile"
        self._config.write_text(
            "{\nadmin off\nlocal_certs\nskip_install_trust\nauto_https disable_redirects\n"
            f"https_port {self.port}\ndefault_bind 127.0.0.1\nstorage file_system {folder}/storage\n"
            f"}}\n{site}"
        )

    def __enter__(self) -> Caddy:
        program = find_caddy()
        if program is None:
            raise RuntimeError("caddy is missing: apt-get install caddy")
        self._log = (self._folder / "log").open("w")
        self._process = subprocess.Popen(
            [program, "run", "--config", str(self._config), "--adapter", "caddyfile"],
            stderr=self._log,
            env=os.environ | {"HOME": str(self._folder)},
        )
        until = time.monotonic() + 20
        while time.monotonic() < until and self._process.poll() is None:
            if self._answers():
                return self
            time.sleep(0.05)
        raise RuntimeError(f"caddy did not start: {(self._folder / 'log').read_text()}")

    def _answers(self) -> bool:
        """Whether it has its certificate; it listens before that."""
        if not self._authority.exists():
            return False
        try:
            context = ssl.create_default_context(cafile=str(self._authority))
            with socket.create_connection(("127.0.0.1", self.port), 5) as plain:
                context.wrap_socket(plain, server_hostname=NAME).close()
        except OSError:
            return False
        return True

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.kill()
        self._process.wait()
        self._log.close()

    def request(
        self, method: str, path: str, form: str | None = None, headers: dict[str, str] | None = None
    ) -> tuple[HTTPResponse, str]:
        """The answer to a request of a browser that has opened the page by its public address."""
        return request(self.port, self._authority, method, path, form, headers or {})
